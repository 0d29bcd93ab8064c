"""The command line `agit`, to which each module of this package adds its commands."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, ParamSpec

import typer
from typer.core import TyperGroup

from agit_hub.environment import discard_output, expand_home, explain, make_output_robust
from agit_hub.errors import AgitError, UserError

if TYPE_CHECKING:
    from agit_hub.inference.pipeline import AGITPipeline

Parameters = ParamSpec("Parameters")

USER_ERROR = UserError.exit_code
FAILURE = AgitError.exit_code
INTERRUPTED = 130
# Of a command whose output is no longer read: what a shell reports for SIGPIPE.
BROKEN_PIPE = 141

_ORDER = (
    *("demo", "inspect", "train", "watch", "translate", "evaluate", "compare", "masks"),
    *("push", "push-data", "export", "space"),
)

# Options that several commands share.
Dtype = Literal["float32", "float16"]
Device = Annotated[str | None, typer.Option(help="cuda, mps, cpu, ...  [default: the fastest]")]
Revision = Annotated[
    str | None, typer.Option(help="Branch, tag or commit of the Hub repo.  [default: main]")
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="Maximum images of each domain, evenly spaced.  [default: all]"),
]


class _Commands(TyperGroup):
    """Lists the commands in the order in which they are typically used."""

    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


app = typer.Typer(
    cls=_Commands,
    name="agit",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 100},
)


@app.callback()
def _commands() -> None:
    """Attention-guided image-to-image translation.

    `agit COMMAND --help` shows a command's options and an example.
    """
    make_output_robust()


def end(error: Exception | str, code: int) -> NoReturn:
    """Print an error in one line on stderr and exit."""
    print(f"error: {error}", file=sys.stderr)
    raise typer.Exit(code)


def show_user_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Make a command print expected errors in one line, and exit with the error's code.

    The command's paths may start with `~`, also where the shell does not expand it (`--out=~/results`).
    """

    @wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **{name: _expand_home(value) for name, value in kwargs.items()})
            sys.stdout.flush()
        except BrokenPipeError:  # as in `agit ... | head`
            discard_output()
            raise typer.Exit(BROKEN_PIPE) from None
        except KeyboardInterrupt:
            end("Interrupted.", INTERRUPTED)
        except Exception as error:
            expected = explain(error)
            if expected is None:
                raise
            end(expected, expected.exit_code)

    return run


def _expand_home(value: Any) -> Any:
    if isinstance(value, list):
        return [_expand_home(each) for each in value]
    return expand_home(value) if isinstance(value, Path) else value


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr, if it is a terminal; yields a function of (done, total)."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(label)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def check_device(device: str | None) -> None:
    """Exit with an error if a device of that name is unavailable."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        end(f"The device {device} cannot be used here: {reason}", USER_ERROR)


def check_label(pipe: "AGITPipeline", to: str) -> None:
    """Check that a model translates to a label.

    Raises:
        UserError: If it does not.
    """
    labels = pipe.model.config.labels
    if to not in labels:
        raise UserError(f"--to is {to!r}: this model translates to {labels[1]} or to {labels[0]}.")
