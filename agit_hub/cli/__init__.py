"""The command line `agit`: use what was trained, and publish it."""

from agit_hub.cli import evaluate, export, masks, push, space, train, translate
from agit_hub.cli.app import app

__all__ = ["app", "evaluate", "export", "main", "masks", "push", "space", "train", "translate"]


def main() -> None:
    """Do what the command line says."""
    app()
