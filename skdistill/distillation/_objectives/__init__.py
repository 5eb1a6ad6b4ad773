"""What distillers minimize: plain functions of tensors, and the objectives on them."""
