"""Small helpers that every other part of the package may use."""
