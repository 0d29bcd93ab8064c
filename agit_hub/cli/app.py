"""The command line itself, to which each module of this package adds its commands."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import NoReturn, ParamSpec

import typer

Parameters = ParamSpec("Parameters")
Errors = tuple[type[Exception], ...]

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


def show_user_errors(
    extra: str, errors: Callable[[], tuple[Errors, Errors]]
) -> Callable[[Callable[Parameters, None]], Callable[Parameters, None]]:
    """Let a command end its expected errors with a sentence instead of a traceback.

    Args:
        extra: What installs the packages that the command needs.
        errors: Imports and returns those of a person's making, which end with code 2, and others that
            are expected, which end with 1.
    """

    def decorate(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
        @wraps(command)
        def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
            try:
                mistakes, failures = errors()
                try:
                    command(*args, **kwargs)
                except mistakes as error:
                    end(error, USER_ERROR)
                except failures as error:
                    end(error, FAILURE)
            except ModuleNotFoundError as error:
                end(f"{error.name} is not installed: pip install '{extra}'.", USER_ERROR)

        return run

    return decorate


def check_device(device: str | None) -> None:
    """End with a sentence if a device of that name cannot be used here."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        end(f"The device {device} cannot be used here: {reason}", USER_ERROR)
