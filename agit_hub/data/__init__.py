"""Picture domains: where the training pictures come from."""
