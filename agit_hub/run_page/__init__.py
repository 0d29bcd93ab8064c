"""The page of a run, `index.html` in its folder: progress, health, sample grids, curves, settings."""
