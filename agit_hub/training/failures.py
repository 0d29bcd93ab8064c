"""What a person is told of the errors that end a run."""

import torch

from agit_hub.errors import DatasetError, EvaluationError, RankError, RunError
from agit_hub.training.config import TrainConfig

# What `to_user_error` knows how to put into words.
EXPLAINED = (DatasetError, EvaluationError, MemoryError, RuntimeError, OSError)


def to_user_error(
    error: Exception, config: TrainConfig, step: int, rank: int, safe: str
) -> Exception:
    """The error that tells a person what to do; the very same where nothing more can be said.

    Args:
        error: One of `EXPLAINED`.
        config: The run.
        step: Where it was.
        rank: Of the process that met the error.
        safe: A sentence naming the newest checkpoint.
    """
    if isinstance(error, DatasetError):
        return RankError(f"{error}{safe}")
    if isinstance(error, EvaluationError):
        return RankError(f"Step {step} cannot be measured: {error}{safe}")
    if isinstance(error, OSError):
        return RunError(f"{error}.{safe}")
    if _is_lost_process(error):
        return RankError(
            f"Process {rank} stops at step {step}: another process of this run has died.{safe}"
        )
    if _is_out_of_memory(error):
        return RunError(
            f"Out of memory at step {step} with train.batch_size {config.train.batch_size} "
            f"and squares of {config.crop_size} pixels (data.crop_size): lower either, or halve "
            f"the batch and double train.gradient_accumulation_steps.{safe}"
        )
    return error


def _is_lost_process(error: BaseException) -> bool:
    # Gloo raises a plain RuntimeError too.
    return isinstance(error, torch.distributed.DistError) or "gloo" in str(error)


def _is_out_of_memory(error: BaseException) -> bool:
    # On a CPU, torch raises a plain RuntimeError.
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "DefaultCPUAllocator" in str(error)
