"""Shared by the benchmarks: probes in processes of their own, interleaved rounds, ratios and JSON."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
Make = Callable[[], Callable[[], object]]
"""Prepares what is measured, and returns the function to time."""


def main(
    module: str,
    doc: str | None,
    measure: Callable[[argparse.Namespace], dict[str, Any]],
    report: Callable[[dict[str, Any]], str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    probe: Callable[..., Any] | None = None,
) -> None:
    """Run a benchmark's command line: print the results, and write them as JSON with `--out`.

    Args:
        module: Its name, which probes are started by.
        doc: Its docstring, whose first line is the description.
        measure: Returns the results.
        report: Formats them as Markdown; JSON without it.
        options: Further options, as arguments of `add_argument`; they are passed on to probes.
        probe: Called in a fresh process with the arguments and the words that follow
            `arguments.command`; its result, unless None, is printed as JSON.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    for name, settings in (options or {}).items():
        parser.add_argument(f"--{name}", **settings)
    parser.add_argument("--out", type=Path, help="a JSON file for the results")
    parser.add_argument("--probe", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.probe:
        assert probe is not None
        found = probe(arguments, *arguments.probe)
        if found is not None:
            print(json.dumps(found))
        return
    passed = [
        f"--{name}={getattr(arguments, name)}"
        for name in options or {}
        if getattr(arguments, name) is not None
    ]
    arguments.command = ["-m", module, *passed, "--probe"]
    results = measure(arguments)
    print(report(results) if report else json.dumps(results, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def run_probe(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Any:
    """Run a Python command in a fresh process, and parse the last line of its output as JSON."""
    ran = subprocess.run(
        [sys.executable, *command],
        env=os.environ | dict(environment or {}),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    return json.loads(ran.stdout.splitlines()[-1])


def machine(threads: int | None = None) -> str:
    """Describe this machine."""
    used = f"{threads} threads" if threads else f"{os.cpu_count()} cores"
    return f"{platform.processor() or platform.machine()}, {used}"


def resident(peak: bool = False) -> int:
    """Return this process's resident memory, or its peak, in bytes.

    Not getrusage's, whose peak starts at that of the parent process.
    """
    name = "VmHWM:" if peak else "VmRSS:"
    status = Path("/proc/self/status").read_text()
    return int(status.split(name)[1].split()[0]) * 1024


def timed(act: Callable[[int], object], rounds: int) -> dict[str, float]:
    """Time an action after one warm-up: median, lowest and highest seconds."""
    act(0)
    seconds = []
    for number in range(1, rounds + 1):
        start = time.perf_counter()
        act(number)
        seconds.append(time.perf_counter() - start)
    names = ("median_s", "from_s", "to_s")
    return dict(zip(names, interval(seconds, 4), strict=True))


def interval(values: Sequence[float], digits: int) -> list[float]:
    """Return median, lowest and highest of some values, rounded."""
    return [round(value, digits) for value in (statistics.median(values), min(values), max(values))]


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Return the quotients of pairs."""
    return [n / d for n, d in zip(numerators, denominators, strict=True)]


def serve(make: Make, device: str = "cpu") -> None:
    """Act once for each line on stdin, and print the seconds and the peak memory.

    Args:
        make: What it allocates counts as memory of the variant.
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
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "megabytes": round((_peak(device) - idle) / 1e6)}
        print("\n@", json.dumps(answer), flush=True)


def _peak(device: str) -> int:
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    return resident(peak=True)


class _Variant:
    """A process that runs `serve`."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self._name = name
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
        raise SystemExit(f"{self._name} exited with code {self._process.wait()}.")

    def end(self) -> None:
        self._process.communicate()


def compare(
    commands: Mapping[str, Sequence[str]], baseline: str, rounds: int, warm_up: int = 2
) -> dict[str, dict[str, Any]]:
    """Measure variants in interleaved rounds, so that drift affects all of them.

    Args:
        commands: By name, the arguments to Python of a process that calls `serve`.
        baseline: The variant whose time is divided by the others', round by round.
        rounds: Number of measured rounds.
        warm_up: Number of rounds before those.

    Returns:
        For each its median seconds, `faster` (median, lowest and highest ratio), its peak memory and
        that memory's share of the baseline's.
    """
    variants = {name: _Variant(name, command) for name, command in commands.items()}
    turns = []
    for number in range(warm_up + rounds):
        turn = {name: variant.act() for name, variant in variants.items()}
        line = "  ".join(f"{name} {each['seconds']:.3f}" for name, each in turn.items())
        print(f"round {number + 1 - warm_up}: {line}", file=sys.stderr, flush=True)
        turns.append(turn)
    for variant in variants.values():
        variant.end()
    seconds = {name: [turn[name]["seconds"] for turn in turns[warm_up:]] for name in commands}
    memory = {name: turns[-1][name]["megabytes"] for name in commands}
    return {
        name: {
            "seconds": round(statistics.median(seconds[name]), 4),
            "faster": interval(ratios(seconds[baseline], seconds[name]), 2),
            "megabytes": memory[name],
            "memory_share": round(memory[name] / memory[baseline], 2),
        }
        for name in commands
    }


def table(results: Mapping[str, Mapping[str, Any]], baseline: str) -> str:
    """Format the result of `compare` as Markdown."""
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
