"""Callbacks of the trainer: log lines, sample grids, the run's page, validation, pushes to the Hub."""
