"""The command line `agit`: use what was trained, and publish it."""

from agit_hub.cli import evaluate, export, masks, publish, space, translate
from agit_hub.cli.application import app

__all__ = ["app", "evaluate", "export", "main", "masks", "publish", "space", "translate"]


def main() -> None:
    """Do what the command line says."""
    app()
