"""Whole trainings on pictures that lie on a Hub: the same to the last bit as on those of a folder."""

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


# What lies on the Hub.


def pictures(count: int, seed: int) -> list[bytes]:
    """Picture files that no two seeds have in common."""
    random = np.random.default_rng(seed)
    files = []
    for _ in range(count):
        file = io.BytesIO()
        pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file, "PNG")
        files.append(file.getvalue())
    return files


def shard(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """A parquet file with row groups of three; lists of bytes are pictures."""
    cells = {
        name: [{"bytes": v, "path": None} if isinstance(v, bytes) else v for v in values]
        for name, values in columns.items()
    }
    file = io.BytesIO()
    pq.write_table(pa.table(cells), file, row_group_size=GROUP)
    return file.getvalue()


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of files."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as opened:
        for name, data in files.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(data)
            opened.addfile(facts, io.BytesIO(data))
    return file.getvalue()


def two_configs(seed: int = 0) -> Files:
    """A folder of shards for each domain."""
    return {
        f"{name}/train-{number:05d}-of-{SHARDS:05d}.parquet": shard(
            {"image": pictures(ROWS, seed + 100 * side + number)}
        )
        for side, name in enumerate(("horse", "zebra"))
        for number in range(SHARDS)
    }


def tars(seed: int = 0) -> Files:
    """Webdataset shards of pictures whose class tells the domain."""
    files = {}
    for number in range(2):
        members: Files = {}
        for row, data in enumerate(pictures(6, seed + number)):
            members |= {f"{row}.png": data, f"{row}.cls": b"%d" % (row % 2)}
        files[f"train-{number}.tar"] = tar(members)
    return files


def in_folder(folder: Path, files: Files) -> dict[str, str]:
    """The same files on disk, and the settings that name them."""
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return {"data.source.path": str(folder), "data.target.path": str(folder)}


@pytest.fixture(autouse=True)
def _online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups so large that no two are held at a time, and shards arrive one after the other."""
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", GROUP)


@pytest.fixture
def assert_equal_runs(
    states: States, metrics: Metrics, assert_same: AssertSame
) -> Callable[[Path, Path], None]:
    """The newest checkpoints and all metrics are equal to the last bit."""

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
    """`train_accelerate.py` in a process whose client takes a hub for the Hub."""
    # As where nobody says otherwise; workers started in another way would import the client anew.
    multiprocessing.set_start_method("fork", force=True)
    connect(pytest.MonkeyPatch(), url, Path(home), hurried=hurried)
    sys.argv = [SCRIPT.name, *arguments]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.stdout.flush()


def _gets(hub: Hub, ending: str) -> dict[str, int]:
    """How many times each file was asked for as a whole."""
    paths = [r.path for r in hub.requests if r.method == "GET" and r.range is None]
    found = [path.split("/resolve/")[1].split("/", 1)[1] for path in paths if "/resolve/" in path]
    return {name: found.count(name) for name in found if name.endswith(ending)}


def _cached(home: Path) -> list[str]:
    snapshots = (home / "cache").rglob("snapshots/*/**/*")
    return sorted(path.name for path in snapshots if path.is_file())


def _config(run: Path) -> Any:
    return yaml.safe_load((run / "config.yaml").read_text())


# The same pictures, wherever they lie.


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_from_the_hub_equals_one_from_a_folder(
    tmp_path: Path, hub: Hub, train: Train, assert_equal_runs: Equal, workers: int
) -> None:
    hub.commit(REPO, two_configs())
    here = in_folder(tmp_path / "pictures", two_configs())
    steps = {"train.max_steps": SHARDS * ROWS + 3}
    train(tmp_path / "hub", ON_HUB | steps | {"data.workers": workers})
    train(tmp_path / "folder", here | steps)
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")
    # No more than once each, though three processes and their look-ahead wanted them.
    assert _gets(hub, ".parquet") == dict.fromkeys(two_configs(), 1)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.usefixtures("one_by_one")
def test_shards_that_arrive_one_after_the_other_make_no_difference(
    tmp_path: Path, hub: Hub, train: Train, assert_equal_runs: Equal, workers: int
) -> None:
    hub.commit(REPO, two_configs())
    here = in_folder(tmp_path / "pictures", two_configs())
    steps = {"train.max_steps": SHARDS * ROWS + 3}
    train(tmp_path / "hub", ON_HUB | steps | {"data.workers": workers})
    train(tmp_path / "folder", here | steps)
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")
    assert _gets(hub, ".parquet") == dict.fromkeys(two_configs(), 1)


def test_the_configuration_says_what_was_read(tmp_path: Path, hub: Hub, train: Train) -> None:
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


def test_three_epochs_fetch_everything_once(tmp_path: Path, hub: Hub, train: Train) -> None:
    files = {
        f"{name}/train-{number}.parquet": shard(
            {"image": pictures(3, number), "more": [os.urandom(2**18)] * 3}
        )
        for number, name in enumerate(("horse", "zebra"))
    }
    hub.commit(REPO, files)
    columns = {"data.source.column": "image", "data.target.column": "image"}
    train(tmp_path / "run", ON_HUB | columns | {"train.max_steps": 9})
    size = sum(map(len, files.values()))
    assert size <= hub.bytes_sent(r"/resolve/.*\.parquet") <= 1.05 * size + 2 * 2 * 2**16
    assert _gets(hub, ".parquet") == dict.fromkeys(files, 1)


def test_without_a_cache_nothing_is_kept(
    tmp_path: Path, hub: Hub, train: Train, assert_equal_runs: Equal
) -> None:
    hub.commit(REPO, two_configs())
    kept_none = {"data.source.storage": "remote", "data.target.storage": "remote"}
    train(tmp_path / "hub", ON_HUB | kept_none)
    assert _cached(tmp_path / "home") == []
    train(tmp_path / "folder", in_folder(tmp_path / "pictures", two_configs()))
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")


def test_without_streaming_everything_is_there_before_the_first_step(
    tmp_path: Path, hub: Hub, train: Train, configure: Configure, assert_equal_runs: Equal
) -> None:
    hub.commit(REPO, two_configs())
    at_once = {"data.source.storage": "download", "data.target.storage": "download"}
    trainer = Trainer(configure(tmp_path / "hub", ON_HUB | at_once))
    assert _gets(hub, ".parquet") == dict.fromkeys(two_configs(), 1)
    hub.fail("refuse", times=None)
    asked = len(hub.requests)
    trainer.fit()
    assert len(hub.requests) == asked
    train(tmp_path / "folder", in_folder(tmp_path / "pictures", two_configs()))
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")


# Stopped and resumed.


def test_a_run_on_numbered_labels_is_resumed_by_the_same_command(
    tmp_path: Path, hub: Hub, train: Train
) -> None:
    columns = {"image": pictures(4, 0), "label": [0, 1, 1, 0]}
    hub.commit(REPO, {"train.parquet": shard(columns)})
    settings: dict[str, Any] = dict(ON_HUB)
    for value, side in enumerate(("source", "target")):
        settings |= {f"data.{side}.label_column": "label", f"data.{side}.label_value": value}
    train(tmp_path / "run", settings | {"train.max_steps": 1})
    train(tmp_path / "run", settings | {"train.max_steps": 2}, resume=True)


@pytest.mark.parametrize("forgotten", [False, True], ids=["cache kept", "cache gone"])
def test_a_resumed_run_stays_at_its_commit_although_the_branch_has_moved_on(
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

    train(tmp_path / "whole", in_folder(tmp_path / "pictures", two_configs()) | steps)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


def test_a_new_run_takes_the_newest_commit(
    tmp_path: Path, hub: Hub, train: Train, states: States
) -> None:
    hub.commit(REPO, two_configs())
    train(tmp_path / "old", ON_HUB | {"train.max_steps": 1})
    shutil.rmtree(tmp_path / "home")
    moved = hub.commit(REPO, two_configs(seed=1000))
    train(tmp_path / "new", ON_HUB | {"train.max_steps": 1})
    assert _config(tmp_path / "new")["data"]["target"]["revision"] == moved


@pytest.mark.parametrize("workers", [0, 2])
def test_webdataset_shards_train_and_resume(
    tmp_path: Path, hub: Hub, train: Train, assert_equal_runs: Equal, workers: int
) -> None:
    hub.commit(REPO, tars())
    settings = ENDLESS | {"train.steps_per_epoch": 6, "train.max_steps": 9}
    streamed = ON_HUB | settings | {"data.workers": workers}
    train(tmp_path / "parts", streamed | {"train.max_steps": 4})
    train(tmp_path / "parts", streamed, resume=True)
    train(tmp_path / "whole", in_folder(tmp_path / "pictures", tars()) | settings)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")
    assert _gets(hub, ".tar") == dict.fromkeys(tars(), 1)


def test_a_killed_run_goes_on_from_its_newest_checkpoint_to_the_last_bit(
    tmp_path: Path,
    hub: Hub,
    arguments: Arguments,
    process: type[Process],
    train: Train,
    assert_equal_runs: Equal,
) -> None:
    hub.commit(REPO, two_configs())
    settings = ON_HUB | ENDLESS | {"train.checkpoint_every": 2, "data.workers": 2}
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


# A network that goes, and mistakes.


@pytest.fixture
def break_after_start(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """From a trainer's first step on, some requests fail."""

    def arm(**fault: Any) -> None:
        fit = Trainer.fit

        def fit_on_a_bad_network(trainer: Trainer) -> Outcome:
            monkeypatch.setattr(Trainer, "fit", fit)
            hub.fail(**fault)
            return fit(trainer)

        monkeypatch.setattr(Trainer, "fit", fit_on_a_bad_network)

    return arm


@pytest.mark.usefixtures("one_by_one")
def test_a_network_that_goes_ends_a_run_where_it_is_and_it_goes_on_later(
    tmp_path: Path,
    hub: Hub,
    arguments: Arguments,
    train: Train,
    assert_equal_runs: Equal,
    break_after_start: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    hub.commit(REPO, two_configs())
    settings: dict[str, Any] = {"train.max_steps": 10, "data.network_patience": 1}
    # The first shard of horses arrives, and then no other.
    break_after_start(kind="refuse", path="/horse/", method="GET", after=1, times=None)
    assert main(arguments(tmp_path / "parts", ON_HUB | settings)) == 1
    (line,) = [ln for ln in capsys.readouterr().err.splitlines() if ln.startswith("error: ")]
    saved = tmp_path / "parts" / "checkpoints" / f"step-{ROWS:08d}"
    assert re.match(rf"error: the dataset {REPO}: fetching horse/train-\S+ failed for \d+ s", line)
    assert "--resume" in line and line.endswith(f"The checkpoint {saved} is safe.")
    assert saved.is_dir()

    hub.heal()
    train(tmp_path / "parts", ON_HUB | settings, resume=True)
    train(tmp_path / "whole", in_folder(tmp_path / "pictures", two_configs()) | settings)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


def test_a_network_that_is_bad_from_the_start_is_a_failure(
    tmp_path: Path, hub: Hub, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit(REPO, two_configs())
    hub.fail("refuse", times=None)
    command = arguments(tmp_path / "run", ON_HUB | {"data.network_patience": 0})
    assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: the dataset {REPO}: listing its files failed")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("access", "told"),
    [
        (None, "it is private"),
        ({"private": True}, "it is private"),
        ({"gated": True}, "accept its terms on its page"),
    ],
    ids=["missing", "private", "gated"],
)
def test_a_dataset_that_may_not_be_read_is_a_mistake_told_in_one_sentence(
    tmp_path: Path,
    hub: Hub,
    arguments: Arguments,
    capsys: pytest.CaptureFixture[str],
    access: dict[str, bool] | None,
    told: str,
) -> None:
    if access is not None:
        hub.commit(REPO, two_configs(), **access)
    assert main(arguments(tmp_path / "run", ON_HUB)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and REPO in line and told in line
    assert not (tmp_path / "run").exists()


def test_webdataset_shards_without_a_length_of_epoch_are_refused(
    tmp_path: Path, hub: Hub, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.commit(REPO, tars())
    assert main(arguments(tmp_path / "run", ON_HUB)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: train.steps_per_epoch is missing")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_run_is_not_resumed_on_another_number_of_pictures(
    tmp_path: Path, train: Train, side: str
) -> None:
    folders = {name: tmp_path / name for name in ("source", "target")}
    for seed, folder in enumerate(folders.values()):
        files = {f"{n}.png": data for n, data in enumerate(pictures(3, seed))}
        in_folder(folder, files)
    settings = {f"data.{name}.path": str(folder) for name, folder in folders.items()}
    train(tmp_path / "run", settings | {"train.max_steps": 1})
    (folders[side] / "1.png").unlink()
    with pytest.raises(ConfigError, match=rf"data\.{side} had 3 pictures .* and has 2"):
        train(tmp_path / "run", settings | {"train.max_steps": 2}, resume=True)


def test_a_run_is_started_from_the_command_line_alone(
    tmp_path: Path, hub: Hub, arguments: Arguments, train: Train, assert_equal_runs: Equal
) -> None:
    """The client reads its environment at import, which only a new process does again."""
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
    train(tmp_path / "folder", in_folder(tmp_path / "pictures", two_configs()))
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")
