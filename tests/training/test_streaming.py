"""Runs on datasets of the Hub: equal bit for bit to runs on the same images in a folder."""

import io
import multiprocessing
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from agit_hub.cli.train import main
from agit_hub.data.domains import parquet
from agit_hub.errors import ConfigError
from agit_hub.training.config import TrainConfig
from agit_hub.training.trainer import Outcome, Trainer
from testing.hub_server import Hub
from tests.online import connect
from tests.training.conftest import ROOT, SCRIPT, SIZE, Arguments, Process, Train

REPO = "user/animals"
SHARDS, ROWS, GROUP = 4, 6, 3
ENDLESS = {"train.decay_from": 1.0}
ON_HUB = {"data.source.path": REPO, "data.target.path": REPO}

AssertSame = Callable[[Any, Any, str], None]
Configure = Callable[..., TrainConfig]
Files = dict[str, bytes]
Metrics = Callable[[Path], list[dict[str, float]]]
States = Callable[[Path], dict[str, Any]]


# Content of the Hub.


def image_files(count: int, seed: int) -> list[bytes]:
    """Return image files that differ between seeds."""
    random = np.random.default_rng(seed)
    files = []
    for _ in range(count):
        file = io.BytesIO()
        pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    return files


def shard(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """Return a parquet file with row groups of three; bytes are images."""
    cells = {
        name: [{"bytes": v, "path": None} if isinstance(v, bytes) else v for v in values]
        for name, values in columns.items()
    }
    file = io.BytesIO()
    pq.write_table(pa.table(cells), file, row_group_size=GROUP)
    return file.getvalue()


def tar(files: Mapping[str, bytes]) -> bytes:
    """Return a tar of files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            opened.addfile(info, io.BytesIO(data))
    return file.getvalue()


def two_configs(seed: int = 0) -> Files:
    """Return a folder of shards for each domain."""
    return {
        f"{name}/train-{number:05d}-of-{SHARDS:05d}.parquet": shard(
            {"image": image_files(ROWS, seed + 100 * side + number)}
        )
        for side, name in enumerate(("horse", "zebra"))
        for number in range(SHARDS)
    }


def tars(seed: int = 0) -> Files:
    """Return webdataset shards whose classes are the domains."""
    files = {}
    for number in range(2):
        members: Files = {}
        for row, data in enumerate(image_files(6, seed + number)):
            members |= {f"{row}.png": data, f"{row}.cls": b"%d" % (row % 2)}
        files[f"train-{number}.tar"] = tar(members)
    return files


def in_folder(folder: Path, files: Files) -> dict[str, str]:
    """Write the files to disk, and return settings that name them."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {"data.source.path": str(folder), "data.target.path": str(folder)}


@pytest.fixture(autouse=True)
def _online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep one row group at a time in memory, so that shards arrive one after the other."""
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", GROUP)


@pytest.fixture
def assert_equal_runs(
    states: States, metrics: Metrics, assert_same: AssertSame
) -> Callable[[Path, Path], None]:
    """Assert that the newest checkpoints and all metrics are equal bit for bit."""

    def check(one: Path, other: Path) -> None:
        newest = max(states(other))[: len("step-00000000")]
        names = [name for name in states(other) if name.startswith(newest)]
        assert names and newest == max(states(one))[: len(newest)]
        for name in names:
            assert_same(states(one)[name], states(other)[name], name)
        assert metrics(one) == metrics(other)

    return check


Equal = Callable[[Path, Path], None]


def train_online(url: str, home: str, hurried: bool, arguments: Sequence[str]) -> None:
    """Run `train_accelerate.py` in a process whose client uses a local hub."""
    # The default start method; workers started in another way would import the client again.
    multiprocessing.set_start_method("fork", force=True)
    connect(pytest.MonkeyPatch(), url, Path(home), hurried=hurried)
    sys.argv = [SCRIPT.name, *arguments]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.stdout.flush()


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
    train(tmp_path / "whole", in_folder(tmp_path / "images", tars()) | settings)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")
    assert _gets(hub, ".tar") == dict.fromkeys(tars(), 1)


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


# Network failures, and user errors.


@pytest.fixture
def break_after_start(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let some requests fail from the first step of a run on."""

    def arm(**fault: Any) -> None:
        fit = Trainer.fit

        def fit_on_a_bad_network(trainer: Trainer) -> Outcome:
            monkeypatch.setattr(Trainer, "fit", fit)
            hub.fail(**fault)
            return fit(trainer)

        monkeypatch.setattr(Trainer, "fit", fit_on_a_bad_network)

    return arm


@pytest.mark.usefixtures("one_by_one")
def test_network_failure_during_run_saves_and_resumes_exactly(
    tmp_path: Path,
    hub: Hub,
    arguments: Arguments,
    train: Train,
    assert_equal_runs: Equal,
    break_after_start: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.commit(REPO, two_configs())
    settings: dict[str, Any] = {"train.max_steps": 10, "data.hub_timeout": 1}
    # Only the first shard of horses arrives.
    break_after_start(kind="refuse", path="/horse/", method="GET", after=1, times=None)
    assert main(arguments(tmp_path / "parts", ON_HUB | settings)) == 1
    (line,) = [ln for ln in capsys.readouterr().err.splitlines() if ln.startswith("error: ")]
    saved = tmp_path / "parts" / "checkpoints" / f"step-{ROWS:08d}"
    assert re.match(rf"error: .*{REPO}: fetching horse/train-\S+ failed for \d+ s", line)
    assert "--resume" in line and line.endswith(f"The checkpoint {saved} is safe.")
    assert saved.is_dir()

    hub.heal()
    train(tmp_path / "parts", ON_HUB | settings, resume=True)
    train(tmp_path / "whole", in_folder(tmp_path / "images", two_configs()) | settings)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


def test_network_failure_at_start_exits_with_one(
    tmp_path: Path, hub: Hub, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit(REPO, two_configs())
    hub.fail("refuse", times=None)
    command = arguments(tmp_path / "run", ON_HUB | {"data.hub_timeout": 0})
    assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(f"error: .*{REPO}: listing its files failed", line)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("access", "part"),
    [
        (None, "it is private"),
        ({"private": True}, "it is private"),
        ({"gated": True}, "accept its terms on its page"),
    ],
    ids=["missing", "private", "gated"],
)
def test_inaccessible_dataset_exits_with_two(
    tmp_path: Path,
    hub: Hub,
    arguments: Arguments,
    capsys: pytest.CaptureFixture[str],
    access: dict[str, bool] | None,
    part: str,
) -> None:
    if access is not None:
        hub.commit(REPO, two_configs(), **access)
    assert main(arguments(tmp_path / "run", ON_HUB)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and REPO in line and part in line
    assert not (tmp_path / "run").exists()


def test_webdataset_without_steps_per_epoch_is_refused(
    tmp_path: Path, hub: Hub, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit(REPO, tars())
    assert main(arguments(tmp_path / "run", ON_HUB)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: train.steps_per_epoch is missing")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("side", ["source", "target"])
def test_resume_with_other_number_of_images_raises_config_error(
    tmp_path: Path, train: Train, side: str
) -> None:
    folders = {name: tmp_path / name for name in ("source", "target")}
    for seed, folder in enumerate(folders.values()):
        files = {f"{n}.png": data for n, data in enumerate(image_files(3, seed))}
        in_folder(folder, files)
    settings = {f"data.{name}.path": str(folder) for name, folder in folders.items()}
    train(tmp_path / "run", settings | {"train.max_steps": 1})
    (folders[side] / "1.png").unlink()
    with pytest.raises(ConfigError, match=rf"data\.{side} had 3 images .* 2"):
        train(tmp_path / "run", settings | {"train.max_steps": 2}, resume=True)


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
