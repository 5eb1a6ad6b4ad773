"""What every iterative distiller shares; it knows no network, teacher or method."""
