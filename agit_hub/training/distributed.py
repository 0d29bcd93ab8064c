"""Accelerate, set up for this trainer: device, precision, trackers, and words between processes."""

import os
import platform
from collections.abc import Callable
from typing import Any, TypeVar

import torch

# First imported once processes have met, its functions would hold their group as a default, and no
# `destroy_process_group` could end it.
import torch._dynamo
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import GradientAccumulationPlugin, LoggerType, broadcast_object_list
from torch import Tensor

from agit_hub import __version__
from agit_hub.errors import ConfigError, DatasetError
from agit_hub.training.config import TrainConfig

Answer = TypeVar("Answer")


def make_accelerator(config: TrainConfig) -> Accelerator:
    """An Accelerator in the configured precision.

    Raises:
        ConfigError: If precision and launcher disagree, this device lacks the precision, or a
            tracker is not installed.
    """
    precision = _precision(config)
    trackers = config.log.tracker_names
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        raise ConfigError(
            f"train.mixed_precision is {precision}, and this process has trained in "
            f"{AcceleratorState().mixed_precision}, which Accelerate keeps for all of a process: "
            "start another."
        )
    known = [str(kind) for kind in LoggerType if kind != LoggerType.ALL]
    available = [str(kind) for kind in get_available_trackers()]
    for name in trackers:
        if name not in known:
            raise ConfigError(
                f"log.trackers names {name!r}; Accelerate knows {', '.join(sorted(known))}."
            )
        if name not in available:
            raise ConfigError(
                f"log.trackers names {name!r}, which is not installed here: pip install {name}."
            )
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            log_with=trackers or None,
            project_dir=config.output_dir,
            # The step adds up its micro-batches itself, whatever the launcher's environment says.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
        )
    except torch.distributed.DistError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"The launched processes cannot reach each other: {reason}") from error
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != started:
        raise ConfigError(
            f"The launcher started {started} processes, and Accelerate leaves each alone: without "
            "as many GPUs, set ACCELERATE_USE_CPU=true before accelerate launch --multi_gpu."
        )
    return accelerator


def _precision(config: TrainConfig) -> str:
    wanted = config.train.mixed_precision
    # The launcher exports "no" when it was told nothing, so only other values can disagree.
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if wanted is not None and launched not in ("no", wanted):
        raise ConfigError(
            f"train.mixed_precision is {wanted} and the launcher was told --mixed_precision "
            f"{launched}: leave one of them out."
        )
    precision = wanted or launched
    if precision == "fp16" and not torch.accelerator.is_available():
        raise ConfigError(
            "train.mixed_precision is fp16, which needs a GPU: take bf16, or no for fp32."
        )
    return precision


def describe_machine(accelerator: Accelerator) -> dict[str, Any]:
    """What a run is trained on, for the model's card."""
    if accelerator.device.type == "cuda":
        device = torch.cuda.get_device_name(accelerator.device)
    else:
        cores = os.cpu_count()
        device = f"{platform.machine()} CPU, {torch.get_num_threads()} of {cores} cores"
    return {
        "device": device,
        "processes": accelerator.num_processes,
        "software": f"agit-hub {__version__}, torch {torch.__version__}, "
        f"Python {platform.python_version()}",
    }


def on_first_rank(accelerator: Accelerator, action: Callable[[], Answer]) -> Answer:
    """Do something on the first process alone, and give every process its result, or its error.

    Machines need not share a disk: the first process is the only one that reads or writes a run folder.
    """
    outcome: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [action()]
        except (ConfigError, DatasetError, OSError) as error:
            if accelerator.num_processes == 1:
                raise
            outcome = [error]
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    answer: Answer = outcome[0]
    return answer


class StopVote:
    """Asks every process at each step whether one of them is to stop.

    On GPUs the answer to a step's question is read after the next step, when it has long arrived: no
    step waits for it, and all processes read the same one.

    Args:
        accelerator: Of the processes.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._pending: tuple[Tensor, torch.cuda.Event] | None = None

    def __call__(self, requested: bool) -> bool:
        """Vote, and say whether all processes stop now."""
        if self._accelerator.num_processes == 1:
            return requested
        device = self._accelerator.device
        votes = self._accelerator.reduce(torch.full((), float(requested), device=device), "sum")
        assert isinstance(votes, Tensor)
        if device.type != "cuda":
            return votes.item() > 0
        answer = torch.empty((), pin_memory=True).copy_(votes, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        before, self._pending = self._pending, (answer, arrived)
        if before is None:
            return False
        before[1].synchronize()
        return before[0].item() > 0


def gather_to_first(accelerator: Accelerator, data: bytes) -> list[bytes]:
    """Every process's data on the first process, in order; nothing on the others."""
    if accelerator.num_processes == 1:
        return [data]
    main = accelerator.is_main_process
    gathered: list[Any] | None = [None] * accelerator.num_processes if main else None
    torch.distributed.gather_object(data, gathered)
    return gathered or []


def destroy_process_group() -> None:
    """Take leave of the other processes, after which nothing can be said to them any more.

    The threads that listen to them would otherwise be at work while Python shuts down, which now and
    then aborts a run that has finished.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
