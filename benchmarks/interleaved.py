"""Contenders in processes of their own that take turns, so that what drifts drifts for all of them."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.memory import resident

ROOT = Path(__file__).resolve().parents[1]


def serve(make: Callable[[], Callable[[], object]], device: str = "cpu") -> None:
    """Be a contender: act once for each line that comes in, and answer how long it took.

    Args:
        make: Prepares what is measured; what it allocates counts as memory of the contender.
        device: Where it acts.
    """
    idle = _peak(device)
    act = make()
    for _ in sys.stdin:
        start = time.perf_counter()
        act()
        if device != "cpu":
            import torch

            torch.accelerator.synchronize()
        taken = time.perf_counter() - start
        answer = {"seconds": taken, "megabytes": round((_peak(device) - idle) / 1e6)}
        print("\n@", json.dumps(answer), flush=True)


def _peak(device: str) -> int:
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    return resident("at most")


class Contender:
    """One process that acts when it is asked to."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def act(self) -> dict[str, float]:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("@ "):
                answer: dict[str, float] = json.loads(line[2:])
                return answer
        raise SystemExit(f"{self.name} has ended: {self._process.wait()}.")

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(
    commands: Mapping[str, Sequence[str]], baseline: str, rounds: int, warm_up: int = 2
) -> dict[str, dict[str, Any]]:
    """Let contenders take turns.

    Args:
        commands: By name, the arguments to Python of a process that ends in `serve`.
        baseline: The one whose time is divided by the others', round by round.
        rounds: How many turns count.
        warm_up: How many do not.

    Returns:
        For each its median seconds, `faster` (median, lowest and highest ratio), its peak memory and
        that memory's share of the baseline's.
    """
    contenders = [Contender(name, command) for name, command in commands.items()]
    turns = []
    for number in range(warm_up + rounds):
        found = {each.name: each.act() for each in contenders}
        print(f"round {number + 1 - warm_up}:", _line(found), file=sys.stderr, flush=True)
        turns.append(found)
    for each in contenders:
        each.end()
    counted = turns[warm_up:]
    results: dict[str, dict[str, Any]] = {}
    for name in commands:
        ratios = [turn[baseline]["seconds"] / turn[name]["seconds"] for turn in counted]
        memory = counted[-1][name]["megabytes"]
        results[name] = {
            "seconds": round(statistics.median(turn[name]["seconds"] for turn in counted), 4),
            "faster": [
                round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))
            ],
            "megabytes": memory,
            "memory_share": round(memory / counted[-1][baseline]["megabytes"], 2),
        }
    return results


def _line(found: Mapping[str, Mapping[str, float]]) -> str:
    return "  ".join(f"{name} {each['seconds']:.3f}" for name, each in found.items())


def table(results: Mapping[str, Mapping[str, Any]], baseline: str) -> str:
    """The results as Markdown."""
    lines = [
        f"| | median, s | times as fast as {baseline} (lowest to highest) | peak memory, MB | share |",
        "|---|---|---|---|---|",
    ]
    for name, each in results.items():
        median, low, high = each["faster"]
        lines.append(
            f"| {name} | {each['seconds']:.3f} | **{median:.2f}** ({low:.2f} to {high:.2f}) "
            f"| {each['megabytes']:.0f} | {each['memory_share']:.2f} |"
        )
    return "\n".join(lines)
