"""Image domains: find, order and load the images of a run."""
