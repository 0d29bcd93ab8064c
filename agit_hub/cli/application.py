"""The command line itself, to which each module of this package adds its commands."""

import sys
from typing import NoReturn

import typer

USER_ERROR = 2
FAILURE = 1
INTERRUPTED = 130

app = typer.Typer(
    name="agit",
    help="Attention-guided image-to-image translation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _commands() -> None:
    """Attention-guided image-to-image translation."""


def end(error: Exception | str, code: int) -> NoReturn:
    """End a command with a sentence instead of a traceback."""
    print(f"error: {error}", file=sys.stderr)
    raise typer.Exit(code)
