"""A page of translated example images: what a model does, in seconds."""
