"""Whose folder a run may write into, and what a resumed run finds of its log."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agit_hub.errors import ConfigError
from agit_hub.training.config import TrainConfig
from agit_hub.training.run_folder import RunFolder
from tests.training.conftest import Train

Configure = Callable[..., TrainConfig]


@pytest.fixture
def run(tmp_path: Path, configure: Configure) -> RunFolder:
    """A run's folder, with the configuration of a tiny run in it."""
    folder = RunFolder(tmp_path / "run")
    folder.write_config(configure(folder.path))
    return folder


def test_a_new_or_empty_folder_is_taken_and_resuming_there_starts(
    tmp_path: Path, configure: Configure, train: Train
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/er"):
        for resume in (False, True):
            RunFolder(tmp_path / name).check(configure(tmp_path / name), resume)
    assert not (tmp_path / "new").exists()
    assert train(tmp_path / "empty", resume=True).finished


def test_a_folder_that_holds_anything_else_is_refused(tmp_path: Path, configure: Configure) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(ConfigError, match=f"{tmp_path} holds files that are not a run's"):
            RunFolder(tmp_path).check(configure(tmp_path), resume)
        with pytest.raises(ConfigError, match=r"thesis\.tex is a file; a folder is needed"):
            RunFolder(tmp_path / "thesis.tex").check(configure(tmp_path), resume)


def test_a_run_is_never_overwritten_only_resumed(run: RunFolder, configure: Configure) -> None:
    config = configure(run.path)
    with pytest.raises(ConfigError, match=r"already holds a run: add --resume"):
        run.check(config, resume=False)
    run.check(config, resume=True)


def test_changed_settings_are_named_with_both_values(run: RunFolder, configure: Configure) -> None:
    changed = configure(
        run.path,
        {
            "train.learning_rate": 0.25,
            "train.switch.step": 3,
            "model.source_label": "horse",
            "data.flip": False,
        },
    )
    with pytest.raises(ConfigError) as refusal:
        run.check(changed, resume=True)
    for part in (
        "train.learning_rate was 0.001 and is 0.25",
        "train.switch.step was None and is 3",
        "model.source_label was 'source' and is 'horse'",
        "data.flip was True and is False",
    ):
        assert part in str(refusal.value)
    assert str(refusal.value).count(" was ") == 4
    assert (
        "Only train.max_steps, eval.patience, log, hub and data.network_patience may change"
        in str(refusal.value)
    )


def test_length_log_and_place_of_a_run_are_free(
    tmp_path: Path, run: RunFolder, configure: Configure
) -> None:
    moved = RunFolder(run.path.rename(tmp_path / "moved"))
    free = {
        "train.max_steps": 99,
        "log.every": 7,
        "log.samples_every": 8,
        "log.samples": 2,
        "log.trackers": "tensorboard",
    }
    moved.check(configure(moved.path, free), resume=True)
    # Keys that merely begin alike are not free.
    with pytest.raises(ConfigError, match=r"train.epochs was 100.* and is 3"):
        moved.check(configure(moved.path, free | {"train.epochs": 3}), resume=True)


@pytest.mark.parametrize("text", ["", "a: b: c", "- 1"], ids=["empty", "broken", "a list"])
def test_a_damaged_configuration_is_refused_in_a_sentence(
    run: RunFolder, configure: Configure, text: str
) -> None:
    (run.path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        run.check(configure(run.path), resume=True)


@pytest.mark.parametrize("cut", ["", '{"step": 9, "loss/cy', "\0\0\0"], ids=["none", "cut", "nul"])
def test_lines_after_the_resumed_step_are_dropped_and_a_cut_one_survived(
    run: RunFolder, cut: str
) -> None:
    for step in (2, 4, 6, 8):
        run.append_metrics({"step": step, "loss/cycle_s": step / 10})
    file = run.path / "metrics.jsonl"
    with file.open("a") as log:
        log.write(cut)
    run.forget_metrics_after(5)
    run.append_metrics({"step": 6, "loss/cycle_s": 0.25})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["step"], line["loss/cycle_s"]) for line in lines] == [
        (2, 0.2),
        (4, 0.4),
        (6, 0.25),
    ]
    run.forget_metrics_after(0)
    assert file.read_text() == ""


def test_the_newest_complete_checkpoint_is_found(run: RunFolder) -> None:
    assert run.newest_checkpoint() is None
    for name in ("step-00000009", "step-00000010", "step-00000011.unfinished"):
        (run.checkpoints / name).mkdir(parents=True)
    assert run.newest_checkpoint() == run.checkpoints / "step-00000010"


def test_a_run_without_a_checkpoint_starts_again_from_nothing(
    tmp_path: Path, train: Train, metrics: Callable[[Path], list[dict[str, float]]]
) -> None:
    """As after a crash before the first save: its lines were of steps that are lost."""
    whole, crashed = tmp_path / "whole", tmp_path / "crashed"
    train(whole)
    crashed.mkdir()
    (crashed / "config.yaml").write_bytes((whole / "config.yaml").read_bytes())
    RunFolder(crashed).append_metrics({"step": 1, "loss/cycle_s": 9.0})
    assert train(crashed, resume=True).finished
    assert metrics(crashed) == metrics(whole)


def test_two_runs_never_write_into_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agit_hub.training.run_folder._STRAGGLERS", 0)
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.lock()
    with pytest.raises(ConfigError, match="is being trained into by another process"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()
    assert list((tmp_path / "run").iterdir()) == []


def test_lines_of_the_log_that_are_none_are_dropped(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    whole = [b'{"step": 1}', b'{"step": 2}']
    broken = [b"[1]", b'{"loss": 1}', b'"step"', b"\xff\xfe", b'{"step": 3']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([whole[0], *broken, whole[1]]) + b"\n")
    run.forget_metrics_after(2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"\n".join(whole) + b"\n"


@pytest.mark.parametrize("said", [None, "main"])
def test_a_continuation_reads_the_commit_that_its_first_part_found(
    said: str | None, tmp_path: Path, configure: Callable[..., TrainConfig]
) -> None:
    """A branch that is named may have moved on; a commit that is named is meant."""
    commit, other = "a" * 40, "b" * 40
    run = RunFolder(tmp_path)
    run.write_config(configure(tmp_path, {"data.source.revision": commit}))
    again = configure(tmp_path, {"data.source.revision": said})
    assert run.with_what_was_found(again).data.source.revision == commit
    moved = configure(tmp_path, {"data.source.revision": other})
    assert run.with_what_was_found(moved).data.source.revision == other
