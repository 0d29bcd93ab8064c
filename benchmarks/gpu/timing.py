"""Timing on a device that works on its own: warm up, then act until enough time has passed."""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile


def arguments(documentation: str | None) -> argparse.Namespace:
    """The command line of a part: `out`, `device`, and `until` when it is to end."""
    parser = argparse.ArgumentParser(description=(documentation or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--until", type=float, required=True, help="seconds since 1970")
    return parser.parse_args()


def last_start(until: float, longest: float) -> float:
    """When the last measurement may begin: `longest` seconds before the end, or a third of the time."""
    return until - min(longest, (until - time.time()) / 3)


def synchronize(device: str) -> None:
    """Wait for everything that was asked of the device."""
    if device != "cpu":
        torch.accelerator.synchronize()


def seconds_each(act: Callable[[], object], device: str, least: float, warm_up: int = 3) -> float:
    """Mean seconds of an act, over as many as take `least` seconds together, and 3 at least."""
    for _ in range(warm_up):
        act()
    synchronize(device)
    count, start = 0, time.perf_counter()
    while count < 3 or time.perf_counter() - start < least:
        act()
        count += 1
        if count % 4 == 0:  # else the clock would only see how fast kernels are launched
            synchronize(device)
    synchronize(device)
    return (time.perf_counter() - start) / count


def kernels(act: Callable[[], object], device: str, longest: int = 5) -> dict[str, Any]:
    """What one act launches, and the kernels (on a CPU, operations) that take longest.

    Returns:
        `launches`, their number; `longest`, milliseconds by name; `busy_ms`, of all of them together.
    """
    activity = ProfilerActivity.CPU if device == "cpu" else ProfilerActivity.CUDA
    act()
    synchronize(device)
    with profile(activities=[activity]) as profiled:
        act()
        synchronize(device)
    taken: dict[str, float] = {}
    launches = 0
    for each in profiled.key_averages():
        self_time = each.self_cpu_time_total if device == "cpu" else each.self_device_time_total
        if self_time > 0:
            taken[each.key[:80]] = taken.get(each.key[:80], 0.0) + self_time / 1e3
            launches += each.count
    ordered = sorted(taken.items(), key=lambda item: -item[1])
    return {
        "launches": launches,
        "busy_ms": round(sum(taken.values()), 2),
        "longest": {name: round(value, 2) for name, value in ordered[:longest]},
    }


def convolution_peak(device: str, dtype: torch.dtype, seconds: float = 0.1) -> float:
    """Operations a second of the fastest 3x3 convolution found, forward, in either memory format."""
    gpu = ((256, 64, 32), (512, 32, 64), (1024, 32, 32))
    shapes = ((128, 32, 2),) if device == "cpu" else gpu
    best = 0.0
    for channels, side, batch in shapes:
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(batch, channels, side, side, device=device, dtype=dtype)
            weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
            x, weight = x.to(memory_format=layout), weight.to(memory_format=layout)
            with torch.inference_mode():
                taken = seconds_each(partial(F.conv2d, x, weight, padding=1), device, seconds)
            best = max(best, 2 * batch * channels**2 * 9 * side**2 / taken)
    return best
