"""The networks of the method, and `AGITModel`, which holds the published ones."""
