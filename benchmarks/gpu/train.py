"""Trains a configuration until the time is up, and copies weights, metrics and samples to OUT.

python -m benchmarks.gpu.train --out OUT --work FOLDER --device cuda --photos FOLDER \\
    --until $(($(date +%s) + 420))

The first steps show how long one takes; the run is resumed with as many as fit, so that its learning
rate decays to 0 in time. Results are copied at every checkpoint. Samples are translations of publishable
photographs (FOLDER/shown), never of the training set.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from agit_hub.runs import RunFolder
from benchmarks.gpu.bring_back import bring_back
from benchmarks.harness import ROOT

# Seconds for the last checkpoint and its copy.
_MARGIN = 15
# Seconds from the start of a process to its first step.
_TO_START = 20
# Part of the time that is planned for steps, in case they slow down.
_SAFETY = 0.94
_MEASURED_STEPS = {"cuda": 100, "cpu": 2}
_SAVE_EVERY = {"cuda": 400, "cpu": 10}


class Training:
    """Runs of `train_accelerate.py`, in a process of their own.

    Args:
        arguments: The command line's.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._device: str = arguments.device
        self._end: float = arguments.until
        self._run: Path = arguments.work / "run"
        photos: Path | None = arguments.photos
        self._shown = photos / "shown" if photos is not None else None

    def act(self) -> int:
        """Measure, train and copy all results; return the exit code."""
        shutil.rmtree(self._run, ignore_errors=True)
        steps = _MEASURED_STEPS[self._device]
        code = self._start(steps, steps // 2).wait()
        if code:
            return code
        per_step = self._seconds_per_step()
        left = self._end - time.time() - _MARGIN - _TO_START
        total = max(2, steps + int(_SAFETY * left / per_step))
        print(f"{per_step:.3f} s a step, {left:.0f} s for steps: {total} steps", flush=True)
        return self._train(total, per_step)

    def _seconds_per_step(self) -> float:
        folder = RunFolder(self._run)
        train = folder.read_config()["train"]
        images = 2 * train["batch_size"] * train["gradient_accumulation_steps"]
        # Of the second half: the first step may compile kernels.
        return float(images / folder.read_metrics()[-1]["images_per_second"])

    def _train(self, total: int, per_step: float) -> int:
        run = self._run
        process = self._start(total, max(1, total // 400), "--resume")
        seen = None
        while process.poll() is None:
            if time.time() > self._end - _MARGIN / 2:
                process.send_signal(signal.SIGTERM)  # it saves a checkpoint and exits
                process.wait()
            newest = max((run / "checkpoints").glob("step-*[0-9]"), default=None)
            if newest != seen:
                seen = newest
                self._bring_back(run)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=0.2)
        self._bring_back(run)
        # A signal may reach a run that has just finished.
        return 0 if RunFolder(run).read_metrics()[-1]["step"] == total else process.returncode

    def _start(self, steps: int, log_every: int, *options: str) -> subprocess.Popen[bytes]:
        # Without Accelerate's launcher, which does not forward signals.
        command = [sys.executable, str(ROOT / "train_accelerate.py")]
        command += ["--config", self._arguments.config]
        command += [
            f"--train.max_steps={steps}",
            f"--train.checkpointing_steps={_SAVE_EVERY[self._device]}",
        ]
        command += [f"--log.steps={log_every}", f"--output_dir={self._run}", *self._domains()]
        # Slow, and possible later on another machine.
        command += ["--eval.steps=null", "--eval.holdout=null", f"--log.sample_steps={10**6}"]
        if self._device == "cpu":  # a smoke test
            command += ["--data.crop_size=32", "--train.batch_size=1", "--model.blocks=1"]
            command += ["--model.image_size=64", "--train.mixed_precision=no"]
            command += ["--train.attention_warmup_steps=0"]
        cpu = {"ACCELERATE_USE_CPU": "true"} if self._device == "cpu" else {}
        return subprocess.Popen(
            [*command, *self._arguments.settings, *options], env=os.environ | cpu
        )

    def _domains(self) -> list[str]:
        photos: Path | None = self._arguments.photos
        if photos is None:
            shapes = ("source", "plain"), ("target", "striped")
            named = [[f"--data.{s}.path=shapes", f"--data.{s}.name={n}"] for s, n in shapes]
            return [option for options in named for option in options]
        return [
            f"--data.source.path={photos / 'trainA'}",
            f"--data.target.path={photos / 'trainB'}",
        ]

    def _bring_back(self, run: Path) -> None:
        try:
            bring_back(run, self._arguments.out, self._device, self._shown)
        except (OSError, json.JSONDecodeError) as error:  # nothing written yet
            print(f"Nothing copied yet: {error}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--until", type=float, required=True, help="a time, in seconds since 1970")
    parser.add_argument(
        "--photos", type=Path, help="a folder with trainA and trainB; shapes without it"
    )
    parser.add_argument("--config", default="horse2zebra")
    parser.add_argument("settings", nargs="*", help="further settings, --key=value, after --")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no GPU here; --device cpu is a smoke test.")
    sys.exit(Training(arguments).act())


if __name__ == "__main__":
    main()
