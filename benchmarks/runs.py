"""Whole runs: the overhead of logs, samples and checkpoints, and two processes against one.

    python -m benchmarks.runs [--out docs/results/runs.json]

The networks are the paper's, at 128 pixels, on the built-in shapes, in bf16: the faster the steps, the
larger the share of the overhead.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from agit_hub.runs import RunFolder
from agit_hub.training.config import LogConfig, TrainSettings
from agit_hub.training.config_loader import parse
from benchmarks.harness import ROOT, interval, machine, main, ratios

SETTINGS = [
    *("--config", "paper", "--model.image_size=128"),
    *("--data.source.path=shapes", "--data.source.name=plain"),
    *("--data.target.path=shapes", "--data.target.name=striped"),
    *("--train.batch_size=2", "--train.mixed_precision=bf16"),
]
# Default intervals in steps.
INTERVALS = {
    "log": LogConfig().steps,
    "samples": LogConfig().sample_steps,
    "checkpoint": TrainSettings().checkpointing_steps,
}


def overhead(steps: int, folder: Path) -> dict[str, Any]:
    """Measure the overhead at default intervals with a run that logs, samples and saves every third step.

    Returns:
        `step_s`, the seconds of a step with its batch; `within`, the shares of loading and image pools;
        and for each of `INTERVALS` its median seconds and the share of its interval's steps.
    """
    from agit_hub.data.dataset import UnpairedDataset
    from agit_hub.training.callbacks.logs import SampleGridCallback
    from agit_hub.training.image_pool import ImagePool
    from agit_hub.training.metrics import MetricLogger
    from agit_hub.training.trainer import Trainer

    every = [f"--{key}=3" for key in ("log.steps", "log.sample_steps", "train.checkpointing_steps")]
    config = parse(
        [*SETTINGS, *every, f"--train.max_steps={steps}", f"--output_dir={folder}"]
    ).config
    trainer = Trainer(config)
    taken: dict[str, list[float]] = defaultdict(list)
    within: dict[str, list[float]] = defaultdict(list)
    start = time.perf_counter()
    with (
        _timed(MetricLogger, "log", taken["log"]),
        _timed(SampleGridCallback, "save_grid", taken["samples"]),
        _timed(Trainer, "_save", taken["checkpoint"]),
        _timed(UnpairedDataset, "__getitem__", within["loading"]),
        _timed(ImagePool, "query", within["image pools"]),
    ):
        trainer.fit()
    whole = time.perf_counter() - start
    step = (whole - sum(map(sum, taken.values()))) / steps
    once = {name: statistics.median(seconds) for name, seconds in taken.items()}
    shares = {name: once[name] / (step * every) for name, every in INTERVALS.items()}
    return {
        "step_s": round(step, 4),
        "within": {name: round(sum(each) / (step * steps), 5) for name, each in within.items()},
        "every": INTERVALS,
        "once_s": {name: round(seconds, 4) for name, seconds in once.items()},
        "share": {name: round(share, 5) for name, share in shares.items()},
        "share_of_all": round(sum(shares.values()), 5),
    }


@contextmanager
def _timed(owner: type, name: str, taken: list[float]) -> Iterator[None]:
    act: Callable[..., Any] = getattr(owner, name)

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = act(*arguments)
        taken.append(time.perf_counter() - start)
        return result

    with patch.object(owner, name, timed):
        yield


def scaling(steps: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Images a second of two processes, a core each, against one on one core, interleaved.

    Each process has the same batch size, so two of them process twice as many images (weak scaling).
    """
    found: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for processes, rates in found.items():
            rates.append(_rate(processes, steps, folder / f"{number}-{processes}"))
            print(f"round {number + 1}, {processes} process(es): {rates[-1]:.2f}", file=sys.stderr)
    return {
        "images_per_second": {n: round(statistics.median(each), 2) for n, each in found.items()},
        "ratio": interval(ratios(found[2], found[1]), 2),
    }


def _rate(processes: int, steps: int, folder: Path) -> float:
    cores = ",".join(map(str, range(processes)))
    launch = [
        *("taskset", "-c", cores, sys.executable, "-m", "accelerate.commands.launch", "--quiet"),
        *("--num_processes", str(processes), "--num_machines", "1"),
        *("--mixed_precision", "bf16", "--dynamo_backend", "no", "--main_process_port", "0"),
        *(["--multi_gpu"] if processes > 1 else []),
    ]
    # The launcher refuses --cpu with --multi_gpu, which it needs for several processes.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    run = [f"--train.max_steps={steps}", "--log.steps=1", "--log.num_samples=1"]
    subprocess.run(
        [*launch, "train_accelerate.py", *SETTINGS, *run, f"--output_dir={folder}"],
        cwd=ROOT,
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # The first steps allocate memory and select kernels.
    lines = RunFolder(folder).read_metrics()[3:]
    return statistics.median(line["images_per_second"] for line in lines)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        # First, for it runs in this process, where imports and kernels are warmed up.
        measured = overhead(arguments.steps, Path(place) / "overhead")
        two = scaling(arguments.steps, arguments.rounds, Path(place))
        return {"machine": machine(), "overhead": measured, "two processes": two}


def report(results: dict[str, Any]) -> str:
    """Format the results as text and tables."""
    measured, two = results["overhead"], results["two processes"]
    lines = [
        f"| {name} | {measured['once_s'][name]:.3f} | {measured['every'][name]} | {share:.2%} |"
        for name, share in measured["share"].items()
    ]
    within = ", ".join(f"{name} {share:.2%}" for name, share in measured["within"].items())
    median, low, high = two["ratio"]
    return "\n".join(
        [
            f"A step with its batch takes {measured['step_s']:.3f} s, of which {within}. Overhead:",
            "",
            "| | s | every, steps | share |",
            "|---|---|---|---|",
            *lines,
            f"| all | | | **{measured['share_of_all']:.2%}** |",
            "",
            f"Two processes of one core each process {median:.2f} ({low:.2f} to {high:.2f}) times as "
            "many images a second as one.",
        ]
    )


if __name__ == "__main__":
    OPTIONS = {"steps": {"type": int, "default": 12}, "rounds": {"type": int, "default": 3}}
    main("benchmarks.runs", __doc__, measure, report, OPTIONS)
