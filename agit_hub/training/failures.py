"""What a person is told of the errors that end a run."""

from typing import Protocol

import torch

from agit_hub.data.errors import PicturesError
from agit_hub.evaluation.errors import EvaluationError
from agit_hub.training.config import TrainConfig


class RunError(RuntimeError):
    """A run that cannot go on; its message says why and what is safe."""


class RankError(RunError):
    """Of one process alone, which must tell it itself."""


class Place(Protocol):
    """Where a run is."""

    config: TrainConfig
    step: int

    def what_is_safe(self) -> str:
        """A sentence naming the newest checkpoint."""
        ...


# What `explain` knows how to put into words.
EXPLAINED = (PicturesError, EvaluationError, MemoryError, RuntimeError, OSError)


def explain(error: Exception, run: Place, rank: int) -> Exception:
    """The error that tells a person what to do; the very same where nothing more can be said.

    Args:
        error: One of `EXPLAINED`.
        run: Where it happened.
        rank: Of the process that met it.
    """
    safe = run.what_is_safe()
    if isinstance(error, PicturesError):
        return RankError(f"{error}{safe}")
    if isinstance(error, EvaluationError):
        return RankError(f"Step {run.step} cannot be measured: {error}{safe}")
    if isinstance(error, OSError):
        return RunError(f"{error}.{safe}")
    if _is_lost_process(error):
        return RankError(
            f"Process {rank} stops at step {run.step}: another process of this run has died.{safe}"
        )
    if _is_out_of_memory(error):
        return RunError(
            f"Out of memory at step {run.step} with train.batch_size {run.config.train.batch_size} "
            f"and squares of {run.config.crop_size} pixels (data.crop_size): lower either, or halve "
            f"the batch and double train.gradient_accumulation_steps.{safe}"
        )
    return error


def _is_lost_process(error: BaseException) -> bool:
    # Gloo raises a plain RuntimeError too.
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    # On a CPU, torch raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "not enough memory" in str(
        error
    )
