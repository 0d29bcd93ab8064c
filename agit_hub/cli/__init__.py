"""The command line `agit`."""

from agit_hub.cli import evaluate, export, inspect, masks, push, space, train, translate
from agit_hub.cli.app import app

__all__ = [
    "app",
    "evaluate",
    "export",
    "inspect",
    "main",
    "masks",
    "push",
    "space",
    "train",
    "translate",
]


def main() -> None:
    """Run the command that the arguments name."""
    app()
