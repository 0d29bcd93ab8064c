"""Checkpoints and models: complete or absent, even if the disk is full."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agit_hub.atomic import write_bytes
from agit_hub.config import AGITConfig
from agit_hub.errors import ConfigError, SaveError
from agit_hub.models.agit import AGITModel
from agit_hub.runs import checkpoint_path, list_checkpoints
from agit_hub.training import checkpoint
from tests.training.conftest import Arguments, Process, Train

DISK_FULL = "File too large"  # error of a file size limit, which simulates a full disk


def _write(folder: Path, step: int, **state: Any) -> Path:
    packed = checkpoint.pack({"step": step, **state})
    checkpoint.write_checkpoint(folder, step, packed, [checkpoint.pack({"own": 1})])
    return checkpoint_path(folder, step)


def _model(seed: int) -> AGITModel:
    torch.manual_seed(seed)
    return AGITModel(AGITConfig(image_size=16, channels=4, blocks=0, attention_channels=4))


def _content(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def test_write_checkpoint_renames_only_when_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_checkpoints(tmp_path / "nowhere") == []
    path = checkpoint_path(tmp_path, 7)
    assert path == tmp_path / "step-00000007"
    written = []

    def watch(file: Path, content: bytes) -> None:
        write_bytes(file, content)
        written.append(file.name)
        assert not path.exists() and list_checkpoints(tmp_path) == []

    monkeypatch.setattr(checkpoint, "write_bytes", watch)
    ranks = [checkpoint.pack({"rank": rank}) for rank in range(2)]
    checkpoint.write_checkpoint(tmp_path, 7, checkpoint.pack({"step": 7}), ranks)
    assert sorted(written) == ["rank-0.pt", "rank-1.pt", "state.pt"]
    assert list_checkpoints(tmp_path) == [path] == list(tmp_path.iterdir())
    states = [checkpoint.unpack(checkpoint.read_state(path / name)) for name in sorted(written)]
    assert states == [{"rank": 0}, {"rank": 1}, {"step": 7}]


def test_write_checkpoint_failure_removes_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(file: Path, content: bytes) -> None:
        if file.name == "state.pt":
            raise SaveError(f"{file} could not be written: disk full")
        write_bytes(file, content)

    monkeypatch.setattr(checkpoint, "write_bytes", fill)
    with pytest.raises(SaveError, match=r"state\.pt"):
        checkpoint.write_checkpoint(tmp_path, 7, b"", [b""])
    assert list(tmp_path.iterdir()) == []


def test_rotate_keeps_newest_and_removes_unfinished(tmp_path: Path) -> None:
    steps = (90, 1000, 10_000, 200)
    for step in steps:
        _write(tmp_path, step)
    left = _write(tmp_path, 20_000)
    left.rename(left.with_name(f"{left.name}.unfinished"))
    found = [path.name for path in list_checkpoints(tmp_path)]
    assert found == ["step-00000090", "step-00000200", "step-00001000", "step-00010000"]
    checkpoint.rotate(tmp_path, limit=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == found[2:]
    checkpoint.rotate(tmp_path, limit=5)
    assert [path.name for path in list_checkpoints(tmp_path)] == found[2:]


def test_rotate_ignores_other_folders(tmp_path: Path) -> None:
    copied = _write(tmp_path, 3).rename(tmp_path / "step-00000003-good")
    notes = tmp_path / "step-notes"
    notes.mkdir()
    newer = _write(tmp_path, 2)
    checkpoint.rotate(tmp_path, limit=1)
    assert list_checkpoints(tmp_path) == [newer]
    assert copied.is_dir() and notes.is_dir()


def test_read_state_of_pickled_code_raises_without_running_it(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"step": Hostile()}, tmp_path / "state.pt")
    with pytest.raises(ConfigError, match="cannot be read"):
        checkpoint.read_state(tmp_path / "state.pt")
    assert not (tmp_path / "ran").exists()


def test_save_model_replaces_files_atomically(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    checkpoint.save_model(_model(0), folder)
    before = _content(folder)
    assert sorted(before) == ["README.md", "config.json", "model.safetensors"]
    # An open file of the earlier model can still be read.
    with (folder / "model.safetensors").open("rb") as reader:
        start = reader.read(100)
        checkpoint.save_model(_model(1), folder)
        assert start + reader.read() == before["model.safetensors"]
    assert list(tmp_path.iterdir()) == [folder]
    loaded, expected = AGITModel.from_pretrained(folder).state_dict(), _model(1).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def _overwrite_model(folder: Path) -> None:
    try:
        checkpoint.save_model(_model(1), folder)
    except SaveError as error:
        raise SystemExit(f"SaveError: {error}") from None


def test_save_model_full_disk_keeps_earlier_model(tmp_path: Path, process: type[Process]) -> None:
    folder = tmp_path / "model"
    checkpoint.save_model(_model(0), folder)
    before = _content(tmp_path)
    for largest_file in (20_000, 100):
        child = process([folder], function=_overwrite_model, largest_file=largest_file)
        code, log, _ = child.finish()
        assert code == 1
        assert log.startswith(f"SaveError: The model could not be written to {folder}")
        assert DISK_FULL in log
        assert _content(tmp_path) == before


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory: pytest.TempPathFactory, train: Train) -> Path:
    """A run of four steps."""
    run = tmp_path_factory.mktemp("runs") / "four-steps"
    train(run, {"train.max_steps": 4})
    return run


@pytest.mark.parametrize(
    ("largest_file", "culprit"),
    [
        (1_000, "config.yaml"),
        (3_000, "metrics.jsonl"),
        (9_000, "step-00000006.png"),
        (20_000, "rank-0.pt"),
        (100_000, "state.pt"),
    ],
)
def test_run_full_disk_fails_and_keeps_checkpoint(
    tmp_path: Path,
    four_steps: Path,
    arguments: Arguments,
    train: Train,
    process: type[Process],
    largest_file: int,
    culprit: str,
) -> None:
    run = Path(shutil.copytree(four_steps, tmp_path / "run"))
    before = {name: _content(run / name) for name in ("checkpoints", "model")}

    longer = arguments(run, {"train.max_steps": 6}, "--resume")
    code, log, _ = process(longer, largest_file=largest_file).finish()
    last = log.splitlines()[-1]
    assert code == 1 and "Traceback" not in log
    assert last.startswith("error: ") and DISK_FULL in last
    assert last.endswith(f"The checkpoint {run / 'checkpoints' / 'step-00000004'} is safe.")
    assert {name: _content(run / name) for name in before} == before
    assert not list(run.rglob("*.unfinished*"))
    assert culprit in last

    # When there is space again, it resumes.
    AGITModel.from_pretrained(run / "model")
    assert train(run, {"train.max_steps": 6}, resume=True).finished
    assert (run / "checkpoints" / "step-00000006").is_dir()


def test_run_full_disk_at_start_can_be_repeated(
    tmp_path: Path, arguments: Arguments, process: type[Process], train: Train
) -> None:
    run = tmp_path / "run"
    code, log, _ = process(arguments(run), largest_file=100).finish()
    assert code == 1 and DISK_FULL in log and "No checkpoint was saved yet." in log
    assert train(run).finished


def test_run_checkpoints_load_with_weights_only(
    tmp_path: Path, train: Train, states: Callable[[Path], dict[str, Any]]
) -> None:
    train(tmp_path, {"train.ema_decay": 0.9, "train.checkpointing_steps": 2, "log.steps": 3})
    assert list(states(tmp_path)) == [
        f"step-{step:08d}/{file}.pt" for step in (2, 4) for file in ("rank-0", "state")
    ]


def test_write_checkpoint_replaces_one_of_the_same_step(tmp_path: Path) -> None:
    """As after resuming from an older one, because the newest was damaged."""
    for content in (b"old", b"new"):
        checkpoint.write_checkpoint(tmp_path, 4, content, [content])
    assert (checkpoint_path(tmp_path, 4) / "state.pt").read_bytes() == b"new"
    checkpoint.rotate(tmp_path, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]
