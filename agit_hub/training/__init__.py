"""Training; requires the `train` extra."""
