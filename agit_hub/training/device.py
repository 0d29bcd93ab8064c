"""What depends on the device a run trains on: arithmetic, memory format, optimisers, indices."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from agit_hub.training.config import TrainSettings


def configure_device(settings: TrainSettings, device: torch.device) -> None:
    """Set the process-wide switches of a GPU's arithmetic; a CPU has none of them.

    Args:
        settings: `tf32`, `cudnn_benchmark` and `deterministic` are read.
        device: Where the run trains.
    """
    if device.type != "cuda":
        return
    torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    torch.backends.cudnn.allow_tf32 = settings.tf32
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark and not settings.deterministic
    torch.backends.cudnn.deterministic = settings.deterministic
    if settings.deterministic:
        # cuBLAS reads it when its first handle is made.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(settings.deterministic)


def adam(
    groups: Sequence[dict[str, Any]], settings: TrainSettings, device: torch.device
) -> torch.optim.Adam:
    """Adam, on a GPU fused: one kernel per group and step, and no wait for fp16's scaler."""
    fused = True if settings.fused_adam and device.type == "cuda" else None
    return torch.optim.Adam(groups, betas=(settings.adam_beta1, 0.999), fused=fused)


def memory_format(settings: TrainSettings) -> torch.memory_format:
    """How images and weights lie in memory."""
    return torch.channels_last if settings.channels_last else torch.contiguous_format


def indices_on(device: torch.device, *lists: Iterable[int]) -> tuple[Tensor, ...]:
    """Lists of indices as tensors on a device, in one transfer that nobody waits for."""
    lengths = []
    together: list[int] = []
    for each in lists:
        before = len(together)
        together += each
        lengths.append(len(together) - before)
    indices = torch.tensor(together, dtype=torch.int64)
    if device.type == "cuda":
        indices = indices.pin_memory().to(device, non_blocking=True)
    return torch.split(indices, lengths)
