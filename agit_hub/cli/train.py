"""What `train_accelerate.py` runs: command line -> TrainConfig -> Trainer.fit()."""

import os
import sys
from collections.abc import Sequence

from agit_hub.errors import ConfigError, DataError, FetchError
from agit_hub.training.config_loader import Command, parse

# What the person can mend, and what went wrong on the way.
USER_ERROR = 2
FAILURE = 1
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the command line says.

    Returns:
        The exit code: 0 when finished or stopped and saved, 2 for a mistake in what was asked for,
        1 for a run that failed. Errors are one sentence on standard error.
    """
    try:
        command = parse(sys.argv[1:] if arguments is None else arguments)
    except ConfigError as error:
        return _fail(error, USER_ERROR)

    # After the command line, which says what is wrong with it without waiting for PyTorch.
    from agit_hub.training.distributed import destroy_process_group

    try:
        return _train(command)
    finally:
        destroy_process_group()


def _train(command: Command) -> int:
    from agit_hub.errors import ModelLoadError, RankError, RunError
    from agit_hub.training.trainer import Trainer

    trainer = None
    try:
        trainer = Trainer(command.config, command.resume)
        outcome = trainer.fit()
    except RankError as error:
        return _fail(error, FAILURE, everywhere=True)
    except (FetchError, RunError) as error:
        return _fail(error, FAILURE)
    except (ConfigError, DataError, ModelLoadError) as error:
        return _fail(error, USER_ERROR)
    except KeyboardInterrupt:
        safe = trainer.last_checkpoint_message() if trainer is not None else ""
        return _fail(f"Interrupted.{safe}", INTERRUPTED)
    if outcome.finished and _is_first_rank():
        print(f"Finished. Model: {trainer.folder.model}  Pictures: {trainer.folder.samples}")
    return 0


def _fail(error: Exception | str, code: int, everywhere: bool = False) -> int:
    if everywhere or _is_first_rank():
        print(f"error: {error}", file=sys.stderr, flush=True)
    return code


def _is_first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


if __name__ == "__main__":
    sys.exit(main())
