"""`agit train`: train from the command line, in one or several processes."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from agit_hub.cli.app import BROKEN_PIPE, INTERRUPTED, app
from agit_hub.environment import discard_output, explain, make_output_robust, require_extra
from agit_hub.errors import RankError

if TYPE_CHECKING:
    from agit_hub.training.config_loader import Command


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
    make_output_robust()
    try:
        require_extra("train")
        from agit_hub.training.config_loader import parse

        arguments = sys.argv[1:] if arguments is None else arguments
        command = parse(arguments)
        if command.num_processes > 1 and "WORLD_SIZE" not in os.environ:
            _launch(command.num_processes, arguments)
        _train(command)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `agit train ... | head`
        discard_output()
        return BROKEN_PIPE
    except KeyboardInterrupt as error:
        return _fail(f"Interrupted.{error}", INTERRUPTED)
    except Exception as error:
        expected = explain(error)
        if expected is None:
            raise
        return _fail(expected, expected.exit_code, all_ranks=isinstance(expected, RankError))
    return 0


def _train(command: "Command") -> None:
    # Imported after errors in the command line, which need no PyTorch.
    from agit_hub.training.distributed import destroy_process_group
    from agit_hub.training.trainer import Trainer

    trainer = None
    try:
        if command.dry_run:
            _check(command)
            return
        trainer = Trainer(command.config, command.resume)
        outcome = trainer.fit()
    except KeyboardInterrupt:
        checkpoint = trainer.last_checkpoint_message() if trainer is not None else ""
        raise KeyboardInterrupt(checkpoint) from None
    finally:
        destroy_process_group()
    if outcome.finished and _is_first_rank():
        folder = trainer.run_folder
        print(f"Finished. Model: {folder.model}  Page: {folder.page_file}")


def _check(command: "Command") -> None:
    """Set up a run, say what it would train, and leave no trace of it."""
    from dataclasses import replace

    from agit_hub.training.trainer import Trainer

    # A repository would be created.
    hub = replace(command.config.hub, push_to_hub=False)
    trainer = Trainer(replace(command.config, hub=hub), command.resume)
    trainer.run_folder.unlock()
    if _is_first_rank():
        print("\n".join(trainer.summary()))
        print("Dry run: this can be trained; nothing was written.")


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
