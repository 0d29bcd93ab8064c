"""Run folders: checks before writing, resuming, metrics, and the lock."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from agit_hub.errors import ConfigError, DataError, RunFolderError
from agit_hub.runs import RunFolder, read_run
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import to_dict, to_yaml
from agit_hub.training.resume import _with_resolved_domains
from agit_hub.training.trainer import Trainer
from tests.training.conftest import Train

Configure = Callable[..., TrainConfig]


@pytest.fixture
def run(tmp_path: Path, configure: Configure) -> RunFolder:
    """A run folder with the configuration of a tiny run."""
    folder = RunFolder(tmp_path / "run")
    folder.write_config(to_yaml(configure(folder.path)))
    return folder


def test_check_new_or_empty_folder_is_accepted(
    tmp_path: Path, configure: Configure, train: Train
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new/er"):
        RunFolder(tmp_path / name).check(to_dict(configure(tmp_path / name)), resume=False)
    assert not (tmp_path / "new").exists()
    assert train(tmp_path / "empty", resume=True).finished


def test_check_folder_with_other_files_raises_config_error(
    tmp_path: Path, configure: Configure
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for resume in (False, True):
        with pytest.raises(ConfigError, match=f"output_dir {tmp_path} holds files"):
            RunFolder(tmp_path).check(to_dict(configure(tmp_path)), resume)
        with pytest.raises(ConfigError, match=r"thesis\.tex is a file"):
            RunFolder(tmp_path / "thesis.tex").check(to_dict(configure(tmp_path)), resume)


def test_check_existing_run_without_resume_raises_config_error(
    run: RunFolder, configure: Configure
) -> None:
    config = to_dict(configure(run.path))
    with pytest.raises(ConfigError, match=r"already holds a run.*--resume"):
        run.check(config, resume=False)
    run.check(config, resume=True)


def test_check_changed_settings_raises_with_both_values(
    run: RunFolder, configure: Configure
) -> None:
    changed = configure(
        run.path,
        {
            "train.learning_rate": 0.25,
            "train.switch.step": 3,
            "model.source_label": "horse",
            "data.flip": False,
        },
    )
    with pytest.raises(ConfigError) as raised:
        run.check(to_dict(changed), resume=True)
    for part in (
        "train.learning_rate was 0.001 and is 0.25",
        "train.switch.step was None and is 3",
        "model.source_label was 'source' and is 'horse'",
        "data.flip was True and is False",
    ):
        assert part in str(raised.value)
    assert str(raised.value).count(" was ") == 4
    for key in ("train.max_steps", "eval.patience", "log", "hub", "data.hub_timeout"):
        assert key in str(raised.value).partition("Only")[2]


def test_check_mutable_settings_may_change(
    tmp_path: Path, run: RunFolder, configure: Configure
) -> None:
    moved = RunFolder(run.path.rename(tmp_path / "moved"))
    free = {
        "train.max_steps": 99,
        "log.steps": 7,
        "log.sample_steps": 8,
        "log.num_samples": 2,
        "log.report_to": "tensorboard",
    }
    moved.check(to_dict(configure(moved.path, free)), resume=True)
    with pytest.raises(ConfigError, match=r"train.num_epochs was 100.* and is 3"):
        moved.check(to_dict(configure(moved.path, free | {"train.num_epochs": 3})), resume=True)


@pytest.mark.parametrize("text", ["", "a: b: c", "- 1"], ids=["empty", "broken", "a list"])
def test_check_damaged_config_raises_config_error(
    run: RunFolder, configure: Configure, text: str
) -> None:
    (run.path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        run.check(to_dict(configure(run.path)), resume=True)


@pytest.mark.parametrize("version", [None, 1, 3])
def test_check_other_format_version_raises_config_error(
    run: RunFolder, configure: Configure, version: int | None
) -> None:
    config = to_dict(configure(run.path))
    text = run.config_file.read_text().replace("\nformat_version: 2\n", "\n")
    run.config_file.write_text(text + ("" if version is None else f"format_version: {version}\n"))
    with pytest.raises(ConfigError, match=f"format_version {version}"):
        run.check(config, resume=True)
    run.model.mkdir()
    (run.model / "model.safetensors").touch()
    with pytest.raises(RunFolderError, match=f"format_version {version}"):
        read_run(run.path)


@pytest.mark.parametrize("cut", ["", '{"step": 9, "loss/cy', "\0\0\0"], ids=["none", "cut", "nul"])
def test_truncate_metrics_drops_later_and_damaged_lines(run: RunFolder, cut: str) -> None:
    for step in (2, 4, 6, 8):
        run.append_metrics({"step": step, "loss/cycle_s": step / 10})
    file = run.path / "metrics.jsonl"
    with file.open("a") as log:
        log.write(cut)
    run.truncate_metrics(5)
    run.append_metrics({"step": 6, "loss/cycle_s": 0.25})
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["step"], line["loss/cycle_s"]) for line in lines] == [
        (2, 0.2),
        (4, 0.4),
        (6, 0.25),
    ]
    run.truncate_metrics(0)
    assert file.read_text() == ""


def test_latest_checkpoint_is_newest_complete_one(run: RunFolder) -> None:
    assert run.latest_checkpoint() is None
    for name in ("step-00000009", "step-00000010", "step-00000011.unfinished"):
        (run.checkpoints / name).mkdir(parents=True)
    assert run.latest_checkpoint() == run.checkpoints / "step-00000010"


def test_resume_without_checkpoint_starts_again(
    tmp_path: Path, train: Train, metrics: Callable[[Path], list[dict[str, float]]]
) -> None:
    """As after a crash before the first checkpoint: its metrics belong to lost steps."""
    whole, crashed = tmp_path / "whole", tmp_path / "crashed"
    train(whole)
    crashed.mkdir()
    (crashed / "config.yaml").write_bytes((whole / "config.yaml").read_bytes())
    RunFolder(crashed).append_metrics({"step": 1, "loss/cycle_s": 9.0})
    assert train(crashed, resume=True).finished
    assert metrics(crashed) == metrics(whole)


def test_lock_second_process_raises_config_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agit_hub.runs._LOCK_TIMEOUT", 0)
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run")
    first.lock()
    with pytest.raises(ConfigError, match="locked by another"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()
    assert list(tmp_path.iterdir()) == []  # nothing was written


def test_truncate_metrics_drops_invalid_lines(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    whole = [b'{"step": 1}', b'{"step": 2}']
    broken = [b"[1]", b'{"loss": 1}', b'"step"', b"\xff\xfe", b'{"step": 3']
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([whole[0], *broken, whole[1]]) + b"\n")
    run.truncate_metrics(2)
    assert (tmp_path / "metrics.jsonl").read_bytes() == b"\n".join(whole) + b"\n"


@pytest.mark.parametrize("revision", [None, "main"])
def test_resolved_domain_of_branch_keeps_commit(
    revision: str | None, tmp_path: Path, configure: Callable[..., TrainConfig]
) -> None:
    """A branch may have moved on since; an explicit commit is used."""
    commit, other = "a" * 40, "b" * 40
    saved = to_dict(configure(tmp_path, {"data.source.revision": commit}))
    again = configure(tmp_path, {"data.source.revision": revision})
    assert _with_resolved_domains(again, saved).data.source.revision == commit
    moved = configure(tmp_path, {"data.source.revision": other})
    assert _with_resolved_domains(moved, saved).data.source.revision == other


def test_trainer_locks_its_folder_before_it_reads_it(
    tmp_path: Path, configure: Configure, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agit_hub.runs._LOCK_TIMEOUT", 0)
    train(tmp_path / "run", {"train.max_steps": 1})
    other = RunFolder(tmp_path / "run")
    other.lock()
    with pytest.raises(ConfigError, match="locked by another"):
        Trainer(configure(tmp_path / "run"), resume=True)
    other.unlock()
    assert train(tmp_path / "run", resume=True).finished


def test_trainer_refused_leaves_no_folder(tmp_path: Path, configure: Configure) -> None:
    config = configure(tmp_path / "new" / "run", {"data.source.path": tmp_path / "missing"})
    with pytest.raises(DataError):
        Trainer(config)
    assert list(tmp_path.iterdir()) == []


def test_resume_with_other_length_states_the_learning_rate(
    tmp_path: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of 4 steps decay: the next rate would be 0.0005 / 2, and of 16 steps it is whole."""
    train(tmp_path, {"train.max_steps": 4, "train.decay_from": 0.5, "train.learning_rate": 5e-4})
    assert "learning rate" not in capsys.readouterr().err
    longer = {"train.max_steps": 16, "train.decay_from": 0.5, "train.learning_rate": 5e-4}
    train(tmp_path, longer, resume=True)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "learning rate" in line)
    assert "4 steps long and is 16" in line and "continues at 0.0005," in line


def test_check_resume_of_missing_folder_is_refused(tmp_path: Path, configure: Configure) -> None:
    run = RunFolder(tmp_path / "typo")
    with pytest.raises(ConfigError, match=r"typo does not exist.*check the name"):
        run.check(to_dict(configure(run.path)), resume=True)


def test_check_resume_with_fewer_steps_than_done_is_refused(
    tmp_path: Path, configure: Configure
) -> None:
    run = RunFolder(tmp_path / "run")
    (run.checkpoints / "step-00000006").mkdir(parents=True)
    config = configure(run.path)
    run.write_config(to_yaml(config))
    for steps in (6, 7, None):
        changed = to_dict(config)
        changed["train"]["max_steps"] = steps
        run.check(changed, resume=True)
    changed["train"]["max_steps"] = 5
    with pytest.raises(ConfigError, match=r"max_steps is 5, and the run in .* at step 6 already"):
        run.check(changed, resume=True)


def test_run_folder_containing_finds_run_of_its_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("run/model", "run/best", "run/samples", "model"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("run/config.yaml", "run/model/model.safetensors"):
        (tmp_path / name).touch()
    for name in ("run", "run/model", "run/best", "run/model/model.safetensors"):
        found = RunFolder.containing(tmp_path / name)
        assert found is not None and found.path == tmp_path / "run"
    assert RunFolder.containing(tmp_path / "model") is None
    assert RunFolder.containing(tmp_path / "run" / "samples") is None
    monkeypatch.chdir(tmp_path / "run" / "model")
    found = RunFolder.containing(".")
    assert found is not None and found.path.resolve() == (tmp_path / "run").resolve()


def test_resolved_domains_keep_ranges_of_values(
    tmp_path: Path, configure: Callable[..., TrainConfig]
) -> None:
    """Those that were inferred at the start; the model was trained with them."""
    saved = to_dict(configure(tmp_path, {"model.source_range": "[0, 4095]"}))
    again = _with_resolved_domains(configure(tmp_path), saved).model
    assert (again.source_range, again.target_range) == ([0, 4095], None)
