"""Publishing: the model card, and pushes of models and datasets to the Hub."""
