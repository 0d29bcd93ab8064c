"""Training from the command line: processes, exit codes, signals, launchers."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from agit_hub.cli.train import main
from agit_hub.errors import ConfigError
from agit_hub.models.agit import AGITModel
from agit_hub.training.config_loader import parse
from agit_hub.training.trainer import Trainer
from tests.training.conftest import ROOT, SCRIPT, Arguments, Process, Train, read_until

pytestmark = pytest.mark.slow

LAUNCH = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
FOREVER = {"train.max_steps": 100_000, "train.decay_from": 1.0}

Metrics = Callable[[Path], list[dict[str, float]]]
States = Callable[[Path], dict[str, Any]]
TwoRanks = Callable[..., list[Process]]


def _launch(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCH, *command],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        timeout=120,
        check=False,
    )


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    """Folders that a run cannot use."""
    for name in ("empty", "unreadable", "thesis"):
        (tmp_path / name).mkdir()
    (tmp_path / "unreadable" / "a.png").write_bytes(b"not an image")
    (tmp_path / "unreadable" / "b.jpg").write_bytes(b"-")
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    return {path.name: path for path in tmp_path.iterdir()}


# Invalid settings, and a pattern of the error message.
REFUSALS: dict[str, tuple[dict[str, str], str]] = {
    "a missing folder": ({"data.source.path": "{}/missing"}, "{}/missing does not exist"),
    "an empty folder": ({"data.target.path": "{}/empty"}, "{}/empty"),
    "no readable image": ({"data.source.path": "{}/unreadable"}, "None of the 2 "),
    "a file for a folder": ({"data.source.path": "{}/thesis/thesis.tex"}, "thesis.tex is a file"),
    "a folder with other files": ({"output_dir": "{}/thesis"}, "{}/thesis holds files"),
    "a file to write into": ({"output_dir": "{}/thesis/thesis.tex"}, "thesis.tex is a file"),
    "below a file": ({"output_dir": "{}/thesis/thesis.tex/run"}, "thesis.tex"),
    "an odd size": ({"model.image_size": "65"}, "model.image_size is 65"),
    "an unknown key": ({"train.max_step": "3"}, "Did you mean 'train.max_steps'?"),
    "a huge seed": ({"train.seed": str(2**32)}, f"train.seed is {2**32}"),
    "half precision": ({"train.mixed_precision": "fp16"}, "fp16, which needs a GPU"),
    "an absent tracker": (
        {"log.report_to": "[tensorboard, wandbb]"},
        "log.report_to is 'wandbb'",
    ),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_main_user_error_prints_one_sentence_and_writes_nothing(
    tmp_path: Path,
    places: dict[str, Path],
    arguments: Arguments,
    process: type[Process],
    reason: str,
) -> None:
    changes, part = REFUSALS[reason]
    changes = {key: value.format(tmp_path) for key, value in changes.items()}
    code, log, printed = process(arguments(tmp_path / "run", changes)).finish()
    (line,) = log.splitlines()
    assert line.startswith("error: ") and part.format(tmp_path) in line
    assert (code, printed) == (2, "")
    assert sorted(tmp_path.iterdir()) == sorted(places.values())
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "years of work"


def _train_in_two_precisions(*commands: list[str]) -> None:
    for command in commands:
        try:
            Trainer(parse(command).config).fit()
        except ConfigError as error:
            print(error, flush=True)


def test_trainer_second_precision_in_one_process_raises_config_error(
    tmp_path: Path, arguments: Arguments, process: type[Process]
) -> None:
    first = arguments(tmp_path / "first")
    second = arguments(tmp_path / "second", {"train.mixed_precision": "bf16"})
    running = process([first, first, second], function=_train_in_two_precisions)
    code, _, printed = running.finish()
    errors = printed.splitlines()
    assert code == 0 and "already holds a run" in errors[0]
    assert re.match("train.mixed_precision is bf16, .* no, ", errors[1])
    assert not (tmp_path / "second").exists()


def test_main_unknown_tracker_does_not_suggest_installation(
    tmp_path: Path, arguments: Arguments, process: type[Process]
) -> None:
    """A mistyped name may be another package: the message lists the trackers of Accelerate."""
    _, log, _ = process(arguments(tmp_path, {"log.report_to": "tensorbord"})).finish()
    assert "pip install tensorbord" not in log
    assert "tensorboard" in log


def test_main_existing_run_is_refused_and_finished_run_resumes_unchanged(
    tmp_path: Path, arguments: Arguments, process: type[Process]
) -> None:
    run = tmp_path / "run"
    code, log, printed = process(arguments(run)).finish()
    assert code == 0 and "Traceback" not in log
    assert printed == f"Finished. Model: {run / 'model'}  Page: {run / 'index.html'}\n"
    assert [line[:8] for line in log.splitlines() if line.startswith("step ")] == [
        f"step {step}/4" for step in (1, 2, 3, 4)
    ]
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}

    code, log, _ = process(arguments(run)).finish()
    (line,) = log.splitlines()
    assert code == 2 and line.startswith(f"error: output_dir {run} already holds a run")
    code, log, _ = process(arguments(run, {"train.lambda_cyc": 3}, "--resume")).finish()
    assert code == 2 and "train.lambda_cyc was 10.0 and is 3.0" in log
    code, log, printed = process(arguments(run, {}, "--resume")).finish()
    assert code == 0 and printed.startswith("Finished.")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_signal_saves_checkpoint_and_run_resumes(
    tmp_path: Path, arguments: Arguments, train: Train, metrics: Metrics, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, SCRIPT, *arguments(tmp_path, FOREVER)],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as running:
        assert running.stderr is not None
        read_until(running.stderr, "step 1/")
        running.send_signal(number)
        log = running.stderr.read()
    assert running.returncode == 0 and "Traceback" not in log
    last = log.splitlines()[-1]
    checkpoints = list((tmp_path / "checkpoints").iterdir())
    assert len(checkpoints) == 1
    step = int(checkpoints[0].name.removeprefix("step-"))
    assert last.startswith(f"Stopped at step {step} of 100000 ") and str(tmp_path) in last
    assert "--resume" in last
    AGITModel.from_pretrained(tmp_path / "model")

    outcome = train(tmp_path, FOREVER | {"train.max_steps": step + 2}, resume=True)
    assert outcome.finished and outcome.step == step + 2
    assert [line["step"] for line in metrics(tmp_path)] == list(range(1, step + 3))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_signal_to_process_group_saves_checkpoint(
    tmp_path: Path, arguments: Arguments, process: type[Process], number: signal.Signals
) -> None:
    """As terminals, launchers, Slurm and systemd do: loader workers receive the signal too."""
    running = process(arguments(tmp_path, FOREVER | {"data.num_workers": 2}))
    running.wait_for("step 1/")
    os.killpg(running.pid, number)
    code, log, _ = running.finish()
    assert "Traceback" not in log
    assert code == 0 and log.splitlines()[-1].startswith("Stopped at step ")
    assert len(list((tmp_path / "checkpoints").glob("step-????????"))) == 1


def test_launch_with_precision_and_tracker_trains(
    tmp_path: Path, arguments: Arguments, process: type[Process], metrics: Metrics
) -> None:
    options = ["--num_processes", "1", "--cpu", "--mixed_precision", "bf16"]
    settings = {"log.report_to": "tensorboard", "log.steps": 2}
    command = arguments(tmp_path, settings)
    done = _launch(*options, "-m", "agit_hub.cli", "train", *command)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "mixed_precision bf16" in done.stderr and "Finished." in done.stdout
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert config["train"]["mixed_precision"] == "bf16"
    assert [line["step"] for line in metrics(tmp_path)] == [2, 4]
    assert all(
        tensor.isfinite().all()
        for tensor in load_file(tmp_path / "model/model.safetensors").values()
    )
    events = [file for file in tmp_path.rglob("*tfevents*") if b"loss/cycle_s" in file.read_bytes()]
    assert len(events) == 1

    # Without the launcher the run keeps its precision; a contradiction is refused.
    code, log, _ = process(arguments(tmp_path, settings, "--resume")).finish()
    assert code == 0 and "mixed_precision bf16" in log
    fp32 = settings | {"train.mixed_precision": "no"}
    code, log, _ = process(arguments(tmp_path, fp32, "--resume")).finish()
    assert code == 2 and "train.mixed_precision was 'bf16' and is 'no'" in log
    other = arguments(tmp_path / "other", {"train.mixed_precision": "no"})
    code, log, _ = process(other, {"ACCELERATE_MIXED_PRECISION": "bf16"}).finish()
    (line,) = log.splitlines()
    assert code == 2 and "train.mixed_precision is no" in line
    assert "--mixed_precision bf16" in line and not (tmp_path / "other").exists()


def test_two_processes_equal_one_with_twice_the_batch(
    tmp_path: Path, arguments: Arguments, train: Train, metrics: Metrics, states: States
) -> None:
    rate, steps = 1e-3, 5
    settings = {
        "train.pool_size": 0,
        "train.switch.step": 2,
        "train.max_steps": steps,
        "train.learning_rate": rate,
        "train.batch_size": 2,
    }
    together, alone = tmp_path / "together", tmp_path / "alone"
    options = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    done = _launch(*options, SCRIPT.name, *arguments(together, settings))
    assert done.returncode == 0 and "Traceback" not in done.stderr
    train(alone, settings | {"train.batch_size": 4})

    # One process logs; one shared state and one of each rank are saved.
    assert done.stderr.count("2 process(es) on cpu") == 1 == done.stdout.count("Finished.")
    assert sorted(states(together)) == [
        f"step-00000005/{name}.pt" for name in ("rank-0", "rank-1", "state")
    ]
    assert len(list((together / "samples").iterdir())) == 1
    one, other = metrics(alone), metrics(together)
    assert [line["step"] for line in other] == [1, 2, 3, 4, 5]
    assert [line["switched"] for line in other] == [0, 0, 1, 1, 1]
    for line, expected in zip(other, one, strict=True):
        assert line == pytest.approx(expected, rel=1e-3, abs=1e-6)
    networks = [
        states(run)["step-00000005/state.pt"]["training"]["networks"] for run in (alone, together)
    ]
    _assert_close(*networks, furthest=rate * steps)


def _assert_close(one: Mapping[str, Any], other: Mapping[str, Any], furthest: float) -> None:
    """Assert equality up to rounding, which Adam amplifies only where a gradient is only rounding.

    These are biases before a norm. Without averaging over the processes, or with other images, weights
    would differ by up to `furthest`.
    """
    assert one.keys() == other.keys()
    checked = 0
    for name, tensor in one.items():
        if tensor.dim() > 1 or ".norms." in name or "head" in name:
            difference = (tensor - other[name]).abs()
            assert difference.mean() < 1e-3 * furthest, name
            assert difference.max() < 0.2 * furthest, name
            checked += 1
    assert checked > len(one) / 3


def test_two_processes_signal_to_one_stops_both_and_resumes_exactly(
    tmp_path: Path,
    arguments: Arguments,
    two_ranks: TwoRanks,
    process: type[Process],
    states: States,
    metrics: Metrics,
    assert_same: Callable[[Any, Any, str], None],
) -> None:
    """Only the second process receives the signal; the first one, which saves, must stop too."""
    parts, whole = tmp_path / "parts", tmp_path / "whole"
    settings = FOREVER | {"train.ema_decay": 0.5, "train.switch.step": 1}
    first, second = two_ranks(arguments(parts, settings))
    first.wait_for("step 2/")
    os.kill(second.pid, signal.SIGTERM)
    (code, log, _), (other_code, silent, _) = first.finish(), second.finish()
    assert (code, other_code, silent) == (0, 0, "")
    stopped = int(log.split("Stopped at step ")[1].split()[0])

    alone = process(arguments(parts, settings, "--resume"))
    code, log, _ = alone.finish()
    (line,) = log.splitlines()
    assert code == 2 and "2 process(es)" in line and "--num_processes 2" in line

    end = settings | {"train.max_steps": stopped + 3}
    for run, flags in ((parts, ["--resume"]), (whole, [])):
        results = [rank.finish() for rank in two_ranks(arguments(run, end, *flags))]
        assert [code for code, _, _ in results] == [0, 0]
    expected, found = states(whole), states(parts)
    newest = f"step-{stopped + 3:08d}"
    for name in ("state.pt", "rank-0.pt", "rank-1.pt"):
        assert_same(found[f"{newest}/{name}"], expected[f"{newest}/{name}"], name)
    pools = [found[f"{newest}/rank-{rank}.pt"]["pools"]["st"]["images"] for rank in (0, 1)]
    assert not torch.equal(*pools)
    assert metrics(parts) == metrics(whole)


def test_two_processes_unconnected_are_refused(
    tmp_path: Path, arguments: Arguments, two_ranks: TwoRanks
) -> None:
    """Without GPUs Accelerate does not connect processes by default: both would train into one folder."""
    alone = {"ACCELERATE_USE_CPU": "false", "CUDA_VISIBLE_DEVICES": ""}
    first, second = (rank.finish() for rank in two_ranks(arguments(tmp_path / "run"), alone))
    assert (first[0], second[0]) == (2, 2)
    assert "2 processes" in first[1] and "Traceback" not in first[1] + second[1]
    assert not (tmp_path / "run").exists()


def test_agit_train_num_processes_launches_processes(tmp_path: Path, arguments: Arguments) -> None:
    command = arguments(tmp_path, {"train.max_steps": 2}, "--num_processes", "2")
    done = subprocess.run(
        [sys.executable, "-m", "agit_hub.cli", "train", *command],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "2 process(es) on cpu" in done.stderr and done.stdout.count("Finished.") == 1
    assert len(list(tmp_path.rglob("rank-?.pt"))) == 2


def test_main_dry_run_says_what_it_would_train_and_writes_nothing(
    tmp_path: Path, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    for flag in ("--dry-run", "--dry_run"):
        assert main(arguments(tmp_path / "new" / "run", {}, flag)) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("Training for 4 steps on 5 source and 3 target images")
        assert printed.endswith("Dry run: this can be trained; nothing was written.\n")
        assert list(tmp_path.iterdir()) == []
    assert main(arguments(tmp_path, {"data.source.path": "/nowhere"}, "--dry-run")) == 2
    assert main(arguments(tmp_path / "run")) == 0
    assert main(arguments(tmp_path / "run", {}, "--dry-run")) == 2  # there is a run already


@pytest.mark.parametrize("number", ["0", "two"])
def test_main_invalid_num_processes_exits_with_two(
    tmp_path: Path, arguments: Arguments, capsys: pytest.CaptureFixture[str], number: str
) -> None:
    assert main(arguments(tmp_path, {}, "--num_processes", number)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: --num_processes") and number in line


def test_metrics_file_lines_hold_numbers_only(tmp_path: Path, train: Train) -> None:
    train(tmp_path, {"train.max_steps": 1})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert all(isinstance(value, int | float) for value in json.loads(line).values())
