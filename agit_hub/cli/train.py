"""`agit train`: train from the command line, in one or several processes."""

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

import typer

from agit_hub.cli.app import INTERRUPTED, USER_ERROR, app
from agit_hub.errors import AgitError, RankError


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def train(context: typer.Context) -> None:
    """Train on two sets of images."""
    raise typer.Exit(main(context.args))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as configured by the command line, and print errors as one sentence.

    Returns:
        The exit code: 0 when finished, or interrupted and saved; 2 for a user error; 1 for a failed run.
    """
    if find_spec("accelerate") is None:
        return _fail("accelerate is not installed: pip install 'agit-hub[train]'.", USER_ERROR)
    from agit_hub.training.config_loader import parse

    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        command = parse(arguments)
    except AgitError as error:
        return _fail(error, error.exit_code)
    if command.num_processes > 1 and "WORLD_SIZE" not in os.environ:
        _launch(command.num_processes, arguments)

    # Imported after errors in the command line, which need no PyTorch.
    from agit_hub.training.distributed import destroy_process_group
    from agit_hub.training.trainer import Trainer

    trainer = None
    try:
        trainer = Trainer(command.config, command.resume)
        outcome = trainer.fit()
    except AgitError as error:
        return _fail(error, error.exit_code, all_ranks=isinstance(error, RankError))
    except KeyboardInterrupt:
        checkpoint = trainer.last_checkpoint_message() if trainer is not None else ""
        return _fail(f"Interrupted.{checkpoint}", INTERRUPTED)
    finally:
        destroy_process_group()
    if outcome.finished and _is_first_rank():
        folder = trainer.run_folder
        print(f"Finished. Model: {folder.model}  Samples: {folder.samples}")
    return 0


def _launch(processes: int, arguments: Sequence[str]) -> None:
    """Replace this process by Accelerate's launcher."""
    import torch

    if not torch.cuda.is_available():
        os.environ["ACCELERATE_USE_CPU"] = "true"
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
    # Port 0 is any free one. The last two options are the defaults that the launcher warns about.
    options = ["--num_processes", str(processes), "--main_process_port", "0"]
    options += ["--num_machines", "1", "--dynamo_backend", "no", "--mixed_precision", "no"]
    os.execv(sys.executable, [*launcher, *options, "-m", "agit_hub.cli", "train", *arguments])


def _fail(error: Exception | str, code: int, all_ranks: bool = False) -> int:
    if all_ranks or _is_first_rank():
        print(f"error: {error}", file=sys.stderr, flush=True)
    return code


def _is_first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


if __name__ == "__main__":
    sys.exit(main())
