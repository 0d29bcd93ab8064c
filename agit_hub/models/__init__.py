"""The networks of the method, and the model that holds the published four."""
