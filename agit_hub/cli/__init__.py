"""The command line `agit`."""

from agit_hub.cli import evaluate, export, masks, push, space, train, translate
from agit_hub.cli.app import app
from agit_hub.environment import make_output_robust

__all__ = ["app", "evaluate", "export", "main", "masks", "push", "space", "train", "translate"]


def main() -> None:
    """Run the command that the arguments name."""
    make_output_robust()
    app()
