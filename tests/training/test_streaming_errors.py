"""Runs on datasets of the Hub that fail: network failures, and errors of the user."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agit_hub.cli.train import main
from agit_hub.errors import ConfigError
from agit_hub.training.trainer import Outcome, Trainer
from testing.hub_server import Hub
from tests.online import connect
from tests.training.conftest import Arguments, Equal, Train
from tests.training.hub_datasets import (
    ON_HUB,
    REPO,
    ROWS,
    image_files,
    in_folder,
    tars,
    two_configs,
)


@pytest.fixture(autouse=True)
def _online(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")


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
    # Only the first shard of horses arrives, which is looked at before the first step.
    break_after_start(kind="refuse", path="/horse/", method="GET", times=None)
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


def test_webdataset_with_fixed_pairs_is_refused(tmp_path: Path, hub: Hub, train: Train) -> None:
    """Pairs repeat after an epoch, whose length is unknown until all shards were fetched."""
    hub.commit(REPO, tars())
    settings = {"train.steps_per_epoch": 6, "train.max_steps": 2, "data.pairing": "fixed"}
    with pytest.raises(ConfigError, match=r"pairing is fixed.*--data.pairing random"):
        train(tmp_path / "run", ON_HUB | settings)
