"""What distillers minimise: plain functions of tensors, and the objectives on them."""
