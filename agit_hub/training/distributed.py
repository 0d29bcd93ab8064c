"""Set up Accelerate and the device, and communicate between processes."""

import os
import platform
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any, TypeVar

import torch

# Must be imported before the process group exists: its functions would otherwise hold the group as a
# default argument, and `destroy_process_group` could not destroy it.
import torch._dynamo
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import (
    GradientAccumulationPlugin,
    InitProcessGroupKwargs,
    LoggerType,
    broadcast_object_list,
)
from torch import Tensor, nn

from agit_hub import __version__
from agit_hub.environment import explain
from agit_hub.errors import ConfigError, DatasetError, EvaluationError, RankError, RunError
from agit_hub.training.config import TrainConfig, TrainSettings
from agit_hub.training.options.launcher import check_launcher

Result = TypeVar("Result")

# Errors that `to_user_error` handles.
# The others wait while the first process fetches data, validates or saves. A process that dies is noticed
# at once all the same.
_PATIENCE = timedelta(hours=6)
# Difference of `_fingerprint` between processes, which is of order 1 for unrelated weights.
_WEIGHT_TOLERANCE = 1e-3

HANDLED_ERRORS = (DatasetError, EvaluationError, MemoryError, RuntimeError, OSError)


def make_accelerator(config: TrainConfig) -> Accelerator:
    """Create an Accelerator with the configured precision and trackers.

    Raises:
        ConfigError: If the launcher was asked for what is not done here, precision and launcher
            disagree, the device does not support the precision, or a tracker is not installed.
    """
    check_launcher()
    precision = _resolve_precision(config.train.mixed_precision)
    trackers = config.log.trackers
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        raise ConfigError(
            f"train.mixed_precision is {precision}, and this process has trained in "
            f"{AcceleratorState().mixed_precision}, which Accelerate keeps for the whole process: "
            "start another process."
        )
    known = [str(kind) for kind in LoggerType if kind != LoggerType.ALL]
    available = [str(kind) for kind in get_available_trackers()]
    for name in trackers:
        if name not in known:
            options = ", ".join(sorted(known))
            raise ConfigError(f"log.report_to is {name!r}; expected one of {options}.")
        if name not in available:
            raise ConfigError(
                f"log.report_to is {name!r}, which is not installed: pip install {name}."
            )
    try:
        accelerator = Accelerator(
            mixed_precision=precision,
            log_with=trackers or None,
            project_dir=config.output_dir,
            # The step accumulates gradients itself: ignore the launcher's environment variable.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[InitProcessGroupKwargs(timeout=_PATIENCE)],
        )
    except torch.distributed.DistError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"The launched processes cannot reach each other: {reason}") from error
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if accelerator.num_processes != launched:
        raise ConfigError(
            f"The launcher started {launched} processes, but Accelerate does not connect them: with "
            "fewer GPUs than that, set ACCELERATE_USE_CPU=true before accelerate launch --multi_gpu."
        )
    return accelerator


def _resolve_precision(wanted: str | None) -> str:
    # The launcher exports "no" by default, so only other values can disagree.
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if wanted is not None and launched not in ("no", wanted):
        raise ConfigError(
            f"train.mixed_precision is {wanted} and the launcher has --mixed_precision {launched}: "
            "remove one of them."
        )
    precision = wanted or launched
    if precision == "fp16" and not torch.accelerator.is_available():
        raise ConfigError("train.mixed_precision is fp16, which needs a GPU: use bf16 or no.")
    return precision


def configure_device(settings: TrainSettings, device: torch.device) -> None:
    """Set the global TF32, cuDNN and determinism flags of a GPU; do nothing on a CPU."""
    if device.type != "cuda":
        return
    torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    torch.backends.cudnn.allow_tf32 = settings.tf32
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark and not settings.deterministic
    torch.backends.cudnn.deterministic = settings.deterministic
    if settings.deterministic:
        # Read by cuBLAS when its first handle is created.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)


def make_adam(
    groups: Sequence[dict[str, Any]], settings: TrainSettings, device: torch.device
) -> torch.optim.Adam:
    """Create Adam, on a GPU fused: one kernel per group and step, without a sync for fp16's scaler."""
    fused = True if settings.fused_adam and device.type == "cuda" else None
    return torch.optim.Adam(groups, betas=(settings.adam_beta1, 0.999), fused=fused)


def memory_format(settings: TrainSettings) -> torch.memory_format:
    """Return the memory format of images and weights."""
    return torch.channels_last if settings.channels_last else torch.contiguous_format


def indices_on(device: torch.device, *lists: Sequence[int]) -> tuple[Tensor, ...]:
    """Convert lists of indices to tensors on a device, in one asynchronous transfer."""
    indices = torch.tensor([*chain(*lists)], dtype=torch.int64)
    if device.type == "cuda":
        indices = indices.pin_memory().to(device, non_blocking=True)
    return torch.split(indices, [len(each) for each in lists])


def describe_machine(accelerator: Accelerator) -> dict[str, Any]:
    """Return the hardware and software of a run, for the model card."""
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


def on_first_rank(accelerator: Accelerator, action: Callable[[], Result]) -> Result:
    """Call a function in the first process only, and return or raise its outcome in every process.

    Machines need not share a disk: only the first process reads or writes a run folder.
    """
    outcome: list[Any] = [None]
    if accelerator.is_main_process:
        try:
            outcome = [action()]
        except (ConfigError, DatasetError, OSError) as error:
            if accelerator.num_processes == 1:
                raise
            outcome = [error]
        except BaseException as error:
            if accelerator.num_processes > 1:  # they would wait for ever
                name = type(error).__name__
                broadcast_object_list([RunError(f"The first process stopped: {name}: {error}")])
            raise
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    result: Result = outcome[0]
    return result


def reduce(accelerator: Accelerator, tensor: Tensor, reduction: str) -> Tensor:
    """Reduce a tensor over all processes by `sum` or `mean`."""
    reduced = accelerator.reduce(tensor, reduction=reduction)
    assert isinstance(reduced, Tensor)
    return reduced


def broadcast_weights(accelerator: Accelerator, network: nn.Module) -> None:
    """Give every process the weights and buffers of the first one."""
    if accelerator.num_processes > 1:
        for tensor in (*network.parameters(), *network.buffers()):
            torch.distributed.broadcast(tensor.data, src=0)


def check_same_weights(accelerator: Accelerator, networks: nn.Module) -> None:
    """Check that all processes hold the same weights, up to rounding.

    Raises:
        RunError: If those of a network differ.
    """
    if accelerator.num_processes == 1:
        return
    names, children = zip(*networks.named_children(), strict=True)
    lowest = torch.stack([_fingerprint(child) for child in children])
    highest = lowest.clone()
    torch.distributed.all_reduce(lowest, torch.distributed.ReduceOp.MIN)
    torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
    for name, difference in zip(names, (highest - lowest).tolist(), strict=True):
        if difference > _WEIGHT_TOLERANCE:
            raise RunError(
                f"The weights of {name} differ between processes, which therefore do not train one "
                "model: resume from an earlier checkpoint, with the same versions of agit-hub and torch "
                "on every machine."
            )


def _fingerprint(network: nn.Module) -> Tensor:
    """Project the weights on a fixed direction, relative to their norm: a scalar in [-1, 1] or so."""
    flat = torch.cat([weight.detach().float().flatten() for weight in network.parameters()])
    direction = torch.arange(len(flat), device=flat.device).cos()
    projection: Tensor = torch.dot(flat, direction) / flat.norm()
    return projection


class StopVote:
    """Agree over all processes whether to stop, which they do if any of them requests it.

    On GPUs the result of a step's vote is read after the next step, when it has arrived: no step waits
    for it, and all processes read the same result.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._pending: tuple[Tensor, torch.cuda.Event] | None = None

    def __call__(self, requested: bool) -> bool:
        """Vote, and return whether all processes stop now."""
        if self._accelerator.num_processes == 1:
            return requested
        device = self._accelerator.device
        votes = reduce(self._accelerator, torch.full((), float(requested), device=device), "sum")
        if device.type != "cuda":
            return votes.item() > 0
        result = torch.empty((), pin_memory=True).copy_(votes, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        before, self._pending = self._pending, (result, arrived)
        if before is None:
            return False
        before[1].synchronize()
        return before[0].item() > 0


def gather_to_first(accelerator: Accelerator, data: bytes) -> list[bytes]:
    """Gather the data of every process in the first one, by rank; return an empty list elsewhere."""
    if accelerator.num_processes == 1:
        return [data]
    main = accelerator.is_main_process
    gathered: list[Any] | None = [None] * accelerator.num_processes if main else None
    torch.distributed.gather_object(data, gathered)
    return gathered or []


def destroy_process_group() -> None:
    """Destroy the process group, if there is one.

    Its listener threads would otherwise run while Python shuts down, which sometimes aborts a process
    that has finished.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def to_user_error(
    error: Exception, config: TrainConfig, step: int, rank: int, checkpoint: str
) -> Exception:
    """Convert one of `HANDLED_ERRORS` to an error that states the remedy, if it is a known one.

    The sentence `checkpoint`, which names the newest checkpoint, is appended to the message.
    """
    if isinstance(error, DatasetError):
        return RankError(f"{error}{checkpoint}")
    if isinstance(error, EvaluationError):
        return RankError(f"Validation failed at step {step}: {error}{checkpoint}")
    if isinstance(error, OSError):
        return RunError(f"{explain(error)}{checkpoint}")
    # Gloo raises a plain RuntimeError too.
    if isinstance(error, torch.distributed.DistError) or "gloo" in str(error):
        return RankError(
            f"Process {rank} stops at step {step}: another process of this run has died.{checkpoint}"
        )
    # On a CPU, torch raises a plain RuntimeError.
    if (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "DefaultCPUAllocator" in str(error)
    ):  # fmt: skip
        return RunError(
            f"Out of memory at step {step} with train.batch_size {config.train.batch_size} "
            f"and crops of {config.crop_size} pixels (data.crop_size): reduce either, or halve the "
            f"batch size and double train.gradient_accumulation_steps.{checkpoint}"
        )
    return error
