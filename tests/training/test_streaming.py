"""Runs on datasets of the Hub: equal bit for bit to runs on the same images in a folder."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from agit_hub.training.config import TrainConfig
from agit_hub.training.setup import run_summary
from agit_hub.training.trainer import Trainer
from testing.hub_server import Hub
from tests.online import connect
from tests.training.conftest import ROOT, SCRIPT, SIZE, Arguments, Equal, Process, Train
from tests.training.hub_datasets import (
    ENDLESS,
    ON_HUB,
    REPO,
    ROWS,
    SHARDS,
    States,
    encoded,
    image_files,
    in_folder,
    shard,
    tars,
    train_online,
    two_configs,
)

pytestmark = pytest.mark.slow

Configure = Callable[..., TrainConfig]


@pytest.fixture(autouse=True)
def _online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")


def _gets(hub: Hub, ending: str) -> dict[str, int]:
    """Return how many times each whole file was requested."""
    paths = [r.path for r in hub.requests if r.method == "GET" and r.range is None]
    found = [path.split("/resolve/")[1].split("/", 1)[1] for path in paths if "/resolve/" in path]
    return {name: found.count(name) for name in found if name.endswith(ending)}


def _cached(home: Path) -> list[str]:
    snapshots = (home / "cache").rglob("snapshots/*/**/*")
    return sorted(path.name for path in snapshots if path.is_file())


def _config(run: Path) -> Any:
    return yaml.safe_load((run / "config.yaml").read_text())


# The same images, on the Hub and in a folder.


@pytest.mark.parametrize("workers", [0, 2])
def test_run_from_hub_equals_run_from_folder(
    tmp_path: Path, hub: Hub, train: Train, assert_equal_runs: Equal, workers: int
) -> None:
    hub.commit(REPO, two_configs())
    here = in_folder(tmp_path / "images", two_configs())
    steps = {"train.max_steps": SHARDS * ROWS + 3}
    train(tmp_path / "hub", ON_HUB | steps | {"data.num_workers": workers})
    train(tmp_path / "folder", here | steps)
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")
    # Once each, although three processes and their prefetching request them.
    assert _gets(hub, ".parquet") == dict.fromkeys(two_configs(), 1)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.usefixtures("one_by_one")
def test_run_with_one_shard_at_a_time_equals_run_from_folder(
    tmp_path: Path, hub: Hub, train: Train, assert_equal_runs: Equal, workers: int
) -> None:
    hub.commit(REPO, two_configs())
    here = in_folder(tmp_path / "images", two_configs())
    steps = {"train.max_steps": SHARDS * ROWS + 3}
    train(tmp_path / "hub", ON_HUB | steps | {"data.num_workers": workers})
    train(tmp_path / "folder", here | steps)
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")
    assert _gets(hub, ".parquet") == dict.fromkeys(two_configs(), 1)


def test_config_file_records_resolved_dataset(tmp_path: Path, hub: Hub, train: Train) -> None:
    commit = hub.commit(REPO, two_configs())
    train(tmp_path / "run", ON_HUB | {"train.max_steps": 1})
    data = _config(tmp_path / "run")["data"]
    for side, name in (("source", "horse"), ("target", "zebra")):
        found = {key: data[side][key] for key in ("path", "revision", "column", "name", "split")}
        assert found == {
            "path": REPO,
            "revision": commit,
            "column": "image",
            "name": name,
            "split": "train",
        }


def test_three_epochs_fetch_each_file_once(tmp_path: Path, hub: Hub, train: Train) -> None:
    files = {
        f"{name}/train-{number}.parquet": shard(
            {"image": image_files(3, number), "more": [os.urandom(2**18)] * 3}
        )
        for number, name in enumerate(("horse", "zebra"))
    }
    hub.commit(REPO, files)
    columns = {"data.source.column": "image", "data.target.column": "image"}
    train(tmp_path / "run", ON_HUB | columns | {"train.max_steps": 9})
    size = sum(map(len, files.values()))
    assert size <= hub.bytes_sent(r"/resolve/.*\.parquet") <= 1.05 * size + 2 * 2 * 2**16
    assert _gets(hub, ".parquet") == dict.fromkeys(files, 1)


def test_storage_remote_keeps_nothing_on_disk(
    tmp_path: Path, hub: Hub, train: Train, assert_equal_runs: Equal
) -> None:
    hub.commit(REPO, two_configs())
    remote = {"data.source.storage": "remote", "data.target.storage": "remote"}
    train(tmp_path / "hub", ON_HUB | remote)
    assert _cached(tmp_path / "home") == []
    train(tmp_path / "folder", in_folder(tmp_path / "images", two_configs()))
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")


def test_run_on_deep_images_of_hub_equals_run_from_folder_and_resumes(
    tmp_path: Path, hub: Hub, train: Train, configure: Configure, assert_equal_runs: Equal
) -> None:
    """Values of 12 bits, whose range is that of the first images and stays that of the run."""
    random = np.random.default_rng(0)
    files = {}
    for name in ("horse", "zebra"):
        images = [encoded(random.integers(0, 4096, (SIZE, SIZE), np.uint16)) for _ in range(6)]
        files[f"{name}/train.parquet"] = shard({"image": images})
    hub.commit(REPO, files)
    steps = ENDLESS | {"train.max_steps": 7}
    trainer = Trainer(configure(tmp_path / "parts", ON_HUB | steps | {"train.max_steps": 3}))
    lines = list(run_summary(trainer._setup, 0, 3, trainer._accelerator))
    said = "of the first 6 images taken: values of images with more than 8 bits run from"
    assert sum(said in line and "4095 as white (inferred" in line for line in lines) == 2
    trainer.fit()
    train(tmp_path / "parts", ON_HUB | steps, resume=True)
    assert _config(tmp_path / "parts")["model"]["source_range"] == [0, 4095]
    train(tmp_path / "folder", in_folder(tmp_path / "images", files) | steps)
    assert_equal_runs(tmp_path / "parts", tmp_path / "folder")


def test_storage_download_fetches_all_before_first_step(
    tmp_path: Path, hub: Hub, train: Train, configure: Configure, assert_equal_runs: Equal
) -> None:
    hub.commit(REPO, two_configs())
    download = {"data.source.storage": "download", "data.target.storage": "download"}
    trainer = Trainer(configure(tmp_path / "hub", ON_HUB | download))
    assert _gets(hub, ".parquet") == dict.fromkeys(two_configs(), 1)
    hub.fail("refuse", times=None)
    requests = len(hub.requests)
    trainer.fit()
    assert len(hub.requests) == requests
    train(tmp_path / "folder", in_folder(tmp_path / "images", two_configs()))
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")


# Stopped and resumed.


def test_run_with_numeric_labels_resumes_with_same_command(
    tmp_path: Path, hub: Hub, train: Train
) -> None:
    columns = {"image": image_files(4, 0), "label": [0, 1, 1, 0]}
    hub.commit(REPO, {"train.parquet": shard(columns)})
    settings: dict[str, Any] = dict(ON_HUB)
    for value, side in enumerate(("source", "target")):
        settings |= {f"data.{side}.label_column": "label", f"data.{side}.label_value": value}
    train(tmp_path / "run", settings | {"train.max_steps": 1})
    train(tmp_path / "run", settings | {"train.max_steps": 2}, resume=True)


@pytest.mark.parametrize("forgotten", [False, True], ids=["cache kept", "cache gone"])
def test_resumed_run_stays_at_commit_of_moved_branch(
    tmp_path: Path, hub: Hub, train: Train, assert_equal_runs: Equal, forgotten: bool
) -> None:
    commit = hub.commit(REPO, two_configs())
    steps = ENDLESS | {"train.max_steps": 7}
    train(tmp_path / "parts", ON_HUB | steps | {"train.max_steps": 3})
    moved = hub.commit(REPO, two_configs(seed=1000) | {"horse/train-99.parquet": b"none"})
    if forgotten:
        shutil.rmtree(tmp_path / "home")
    train(tmp_path / "parts", ON_HUB | steps, resume=True)
    assert moved != _config(tmp_path / "parts")["data"]["source"]["revision"] == commit

    train(tmp_path / "whole", in_folder(tmp_path / "images", two_configs()) | steps)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


def test_new_run_uses_newest_commit(tmp_path: Path, hub: Hub, train: Train, states: States) -> None:
    hub.commit(REPO, two_configs())
    train(tmp_path / "old", ON_HUB | {"train.max_steps": 1})
    shutil.rmtree(tmp_path / "home")
    moved = hub.commit(REPO, two_configs(seed=1000))
    train(tmp_path / "new", ON_HUB | {"train.max_steps": 1})
    assert _config(tmp_path / "new")["data"]["target"]["revision"] == moved


@pytest.mark.parametrize("workers", [0, 2])
def test_webdataset_run_resumes_exactly(
    tmp_path: Path, hub: Hub, train: Train, assert_equal_runs: Equal, workers: int
) -> None:
    hub.commit(REPO, tars())
    settings = ENDLESS | {"train.steps_per_epoch": 6, "train.max_steps": 9}
    streamed = ON_HUB | settings | {"data.num_workers": workers}
    train(tmp_path / "parts", streamed | {"train.max_steps": 4})
    train(tmp_path / "parts", streamed, resume=True)
    train(tmp_path / "whole", streamed)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")
    assert _gets(hub, ".tar") == dict.fromkeys(tars(), 1)
    # In a folder the images are counted in advance; the run is the same.
    train(tmp_path / "local", in_folder(tmp_path / "images", tars()) | settings)
    weights = Path("model") / "model.safetensors"
    assert (tmp_path / "local" / weights).read_bytes() == (
        tmp_path / "whole" / weights
    ).read_bytes()


def test_killed_run_resumes_exactly(
    tmp_path: Path,
    hub: Hub,
    arguments: Arguments,
    process: type[Process],
    train: Train,
    assert_equal_runs: Equal,
) -> None:
    hub.commit(REPO, two_configs())
    settings = ON_HUB | ENDLESS | {"train.checkpointing_steps": 2, "data.num_workers": 2}
    command = arguments(tmp_path / "parts", settings | {"train.max_steps": 100_000})
    running = process([hub.url, str(tmp_path / "home"), True, command], function=train_online)
    running.wait_for("step 9/")
    os.killpg(running.pid, signal.SIGKILL)
    code, _, _ = running.finish()
    assert code == -signal.SIGKILL
    checkpoints = (tmp_path / "parts" / "checkpoints").glob("step-????????")
    newest = max(int(path.name.removeprefix("step-")) for path in checkpoints)
    assert newest >= 8 and newest % 2 == 0

    end = settings | {"train.max_steps": newest + 3}
    train(tmp_path / "parts", end, resume=True)
    train(tmp_path / "whole", end)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


def test_command_line_with_environment_trains_from_private_dataset(
    tmp_path: Path, hub: Hub, arguments: Arguments, train: Train, assert_equal_runs: Equal
) -> None:
    """The client reads its environment on import, so a new process is needed."""
    hub.commit(REPO, two_configs(), private=True)
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "another home"),
        "HF_TOKEN": "hf_test",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, str(SCRIPT), *arguments(tmp_path / "hub", ON_HUB)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=120, check=False
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert len(_cached(tmp_path / "another home" / "hub")) == 0 < hub.bytes_sent(r"\.parquet")
    train(tmp_path / "folder", in_folder(tmp_path / "images", two_configs()))
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")
