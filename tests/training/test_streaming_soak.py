"""Long tests: runs killed at random steps, and a network that fails a hundred times."""

import io
import os
import random
import signal
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agit_hub.runs import list_checkpoints
from testing.hub_server import Hub
from tests.online import connect
from tests.training.conftest import ROOT, SCRIPT, Arguments, Process, Train, read_until
from tests.training.hub_datasets import (
    ENDLESS,
    ON_HUB,
    REPO,
    Files,
    Metrics,
    States,
    image_files,
    shard,
    tars,
    train_online,
    two_configs,
)
from tests.training.test_distributed import ENVIRONMENT, LAUNCH
from tests.training.test_multi_machine import child

pytestmark = pytest.mark.soak

LAST = 60
FAULTS = 100


def _folders(count: int, seed: int = 0) -> Files:
    return {
        f"{folder}/{number}.png": data
        for side, folder in enumerate(("trainA", "trainB"))
        for number, data in enumerate(image_files(count, seed + side))
    }


def _zip(files: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, data in files.items():
            opened.writestr(name, data)
    return file.getvalue()


def _two_columns() -> Files:
    return {
        f"train-{n}.parquet": shard(
            {"imageA": image_files(6, n), "imageB": image_files(6, 100 + n)}
        )
        for n in range(3)
    }


def _label_column() -> Files:
    labels = [0, 1, 1, 0, 1, 0]
    return {
        f"train-{n}.parquet": shard({"image": image_files(6, n), "label": labels}) for n in range(3)
    }


LABELS = {"data.source.label_column": "label", "data.target.label_column": "label"}
OTHER = "user/others"
# Files of each repository, settings, and number of kills.
LAYOUTS: dict[str, tuple[dict[str, Files], dict[str, Any], int]] = {
    "two columns": ({REPO: _two_columns()}, {}, 3),
    "two configs": ({REPO: two_configs()}, {}, 3),
    "label column": ({REPO: _label_column()}, LABELS, 3),
    "folders": ({REPO: _folders(9)}, {}, 3),
    "zip": ({REPO: {"train.zip": _zip(_folders(9))}}, {}, 3),
    "webdataset": ({REPO: tars()}, {"train.steps_per_epoch": 6}, 3),
    "two datasets": (
        {
            REPO: {"train-0.parquet": shard({"image": image_files(9, 0)})},
            OTHER: {"train-0.parquet": shard({"image": image_files(7, 1)})},
        },
        {"data.target.path": OTHER},
        2,
    ),
}


@pytest.fixture(autouse=True)
def _online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")


def _newest(files: Mapping[str, Any]) -> dict[str, Any]:
    step = max(files)[: len("step-00000000")]
    return {name: state for name, state in files.items() if name.startswith(step)}


def test_number_of_kills_is_twenty() -> None:
    assert sum(kills for _, _, kills in LAYOUTS.values()) == 20


@pytest.mark.parametrize("layout", LAYOUTS)
def test_run_killed_at_random_steps_equals_uninterrupted_run(
    tmp_path: Path,
    hub: Hub,
    arguments: Arguments,
    process: type[Process],
    train: Train,
    states: States,
    metrics: Metrics,
    assert_same: Callable[[Any, Any, str], None],
    layout: str,
) -> None:
    repositories, changes, kills = LAYOUTS[layout]
    for name, files in repositories.items():
        hub.commit(name, files)
    chance = random.Random(layout)
    steps = {"train.checkpointing_steps": chance.randint(1, 3)}
    settings = ON_HUB | ENDLESS | changes | steps | {"data.num_workers": chance.randint(0, 2)}
    # The killed runs share a home, so that files they left incomplete are found again.
    connection = [hub.url, str(tmp_path / "killed home"), True]
    moments = sorted(chance.sample(range(1, LAST - 20), kills))
    (tmp_path / "parts").mkdir()  # which the first part may resume, having nothing
    endless = arguments(tmp_path / "parts", settings | {"train.max_steps": 100_000}, "--resume")
    done = 0
    for moment in moments:
        running = process([*connection, endless], function=train_online)
        running.wait_for(f"step {max(moment, done + 1)}/")
        os.killpg(running.pid, signal.SIGKILL)
        code, _, _ = running.finish()
        assert code == -signal.SIGKILL
        kept = (tmp_path / "parts" / "checkpoints").glob("step-????????")
        done = max((int(path.name.removeprefix("step-")) for path in kept), default=0)

    end = {"train.max_steps": max(LAST, done + 5)}
    last = arguments(tmp_path / "parts", settings | end, "--resume")
    code, log, _ = process([*connection, last], function=train_online).finish()
    assert code == 0, log
    # The reference decodes images in the training process, and is never stopped.
    train(tmp_path / "whole", settings | end | {"data.num_workers": 0})
    assert_same(_newest(states(tmp_path / "parts")), _newest(states(tmp_path / "whole")), layout)
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_two_ranks_killed_mid_epoch_resume_exactly(
    tmp_path: Path,
    hub: Hub,
    arguments: Arguments,
    states: States,
    assert_same: Callable[[Any, Any, str], None],
) -> None:
    hub.commit(REPO, two_configs())
    environment = ENVIRONMENT | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "cache"),
    }
    settings = ON_HUB | ENDLESS | {"data.num_workers": 2, "train.checkpointing_steps": 2}

    def launch(run: str, steps: int, *flags: str) -> subprocess.Popen[str]:
        command = arguments(tmp_path / run, settings | {"train.max_steps": steps}, *flags)
        together = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
        return subprocess.Popen(
            [*LAUNCH, *together, SCRIPT.name, *command],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=ROOT,
        )

    with launch("parts", 100_000) as running:
        assert running.stderr is not None
        read_until(running.stderr, "step 5/")
        # The launcher starts each in its own session, and would leave them running if it were killed.
        for rank in (1, 0):
            os.kill(child(running.pid, rank), signal.SIGKILL)
    kept = list_checkpoints(tmp_path / "parts" / "checkpoints")
    end = int(kept[-1].name.removeprefix("step-")) + 5
    for run, flags in (("parts", ["--resume"]), ("whole", [])):
        with launch(run, end, *flags) as running:
            _, log = running.communicate(timeout=120)
        assert running.returncode == 0, log
    found, expected = (_newest(states(tmp_path / run)) for run in ("parts", "whole"))
    assert len(expected) == 3
    assert_same(found, expected, "two ranks")


KINDS: list[dict[str, Any]] = [
    {"kind": "drop", "method": "GET"},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503, "method": "GET"},
    {"kind": "status", "status": 429, "headers": {"Retry-After": "1"}},
    {"kind": "stall", "method": "GET"},
    {"kind": "truncate", "method": "GET"},
]


def test_run_with_hundred_network_faults_equals_run_without(
    tmp_path: Path,
    hub: Hub,
    arguments: Arguments,
    process: type[Process],
    train: Train,
    states: States,
    assert_same: Callable[[Any, Any, str], None],
) -> None:
    files = _folders(FAULTS // 2)
    hub.commit(REPO, files)
    settings = ON_HUB | {"train.max_steps": FAULTS // 2 + 5, "data.num_workers": 2}
    train(tmp_path / "calm", settings)
    for number, name in enumerate(files):
        hub.fail(**KINDS[number % len(KINDS)], path=f"/{name}$")
    command = arguments(tmp_path / "rough", settings)
    connection = [hub.url, str(tmp_path / "rough home"), False]
    code, log, _ = process([*connection, command], function=train_online).finish()
    assert code == 0, log
    assert hub.faults_served >= FAULTS
    assert_same(states(tmp_path / "rough"), states(tmp_path / "calm"), "a hundred faults")
