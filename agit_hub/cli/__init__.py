"""The command line `agit`."""

import sys

from agit_hub.cli import (
    demo,
    evaluate,
    export,
    inspect,
    masks,
    push,
    space,
    train,
    translate,
    watch,
)
from agit_hub.cli.app import BROKEN_PIPE, app
from agit_hub.environment import discard_output, make_output_robust

__all__ = [
    "app",
    "demo",
    "evaluate",
    "export",
    "inspect",
    "main",
    "masks",
    "push",
    "space",
    "train",
    "translate",
    "watch",
]


def main() -> None:
    """Run the command that the arguments name."""
    make_output_robust()
    try:
        app()
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # as in `agit train --help | head`
            discard_output()
            sys.exit(BROKEN_PIPE)
