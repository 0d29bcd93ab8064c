"""Timing on an asynchronous device: warm up, then act until enough time has passed."""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile


def arguments(documentation: str | None) -> argparse.Namespace:
    """Parse the command line of a part: `out`, `device`, and the end time `until`."""
    parser = argparse.ArgumentParser(description=(documentation or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a JSON file")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--until", type=float, required=True, help="seconds since 1970")
    return parser.parse_args()


def last_start(until: float, longest: float) -> float:
    """Return the latest start: `longest` seconds or a third of the time before the end."""
    return until - min(longest, (until - time.time()) / 3)


def measure_rows(
    out: Path,
    end: float,
    results: dict[str, Any],
    rows: Iterable[tuple[dict[str, Any], Callable[[], dict[str, Any]]]],
) -> None:
    """Add a row of results for each measurement until the time is up, and write `out` after each.

    Args:
        out: A JSON file.
        end: When the last measurement may start.
        results: With a list `rows`.
        rows: What identifies each row, and the function that measures its values.
    """
    for row, measure in rows:
        if time.time() > end:
            print("Time is up: the remaining rows were not measured.")
            return
        try:
            row |= measure()
        except Exception as error:  # one failed row must not end the others
            row["error"] = f"{type(error).__name__}: {str(error)[:300]}"
        results["rows"].append(row)
        values = (f"{key} {value}" for key, value in row.items() if not isinstance(value, dict))
        print(*values, sep=", ", flush=True)
        out.write_text(json.dumps(results, indent=1) + "\n", "utf-8")


def synchronize(device: str) -> None:
    """Wait for all work queued on the device."""
    if device != "cpu":
        torch.accelerator.synchronize()


def seconds_each(act: Callable[[], object], device: str, least: float, warm_up: int = 3) -> float:
    """Return the mean seconds of a call, over at least 3 and as many as take `least` seconds in total."""
    for _ in range(warm_up):
        act()
    synchronize(device)
    count, start = 0, time.perf_counter()
    while count < 3 or time.perf_counter() - start < least:
        act()
        count += 1
        if count % 4 == 0:  # otherwise only launches would be timed
            synchronize(device)
    synchronize(device)
    return (time.perf_counter() - start) / count


def kernels(act: Callable[[], object], device: str, longest: int = 5) -> dict[str, Any]:
    """Profile one call: its kernels (on a CPU, operations) and the longest ones.

    Returns:
        `launches`, their number; `longest`, milliseconds by name; `busy_ms`, milliseconds of all.
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


PEAK_SHAPES = ((256, 64, 32), (512, 32, 64), (1024, 32, 32))


def convolution_peak(
    device: str,
    dtype: torch.dtype,
    seconds: float = 0.1,
    shapes: Sequence[tuple[int, int, int]] = PEAK_SHAPES,
) -> float:
    """Operations a second of the fastest 3x3 convolution found, forward, in either memory format.

    Args:
        device: Where it runs.
        dtype: Of images and weights.
        seconds: For each measurement.
        shapes: Channels, side and batch of each.
    """
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
