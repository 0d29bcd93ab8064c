"""A training keeps the page of its run: while it goes on, and however it ends."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agit_hub.errors import RunError
from agit_hub.run_page.status import RunStatus, read_status
from agit_hub.runs import RunFolder
from agit_hub.training.attention_monitor import CollapseMonitor
from agit_hub.training.callbacks import run_page
from agit_hub.training.callbacks.base import TrainerState
from agit_hub.training.callbacks.run_page import RunPageCallback
from tests.conftest import MakeModel
from tests.training.conftest import Train


def test_training_writes_its_page_at_each_log_step_and_the_end(
    tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[RunStatus] = []
    write = run_page.write_status

    def record(run: RunFolder, status: RunStatus) -> None:
        written.append(status)
        write(run, status)

    monkeypatch.setattr(run_page, "write_status", record)
    train(tmp_path / "run", {"train.max_steps": 4, "log.steps": 2})
    assert [(s.state, s.step) for s in written] == [
        ("running", 0), ("running", 2), ("running", 4), ("finished", 4),
    ]  # fmt: skip
    assert written[1].seconds_left is not None and written[1].seconds_left > 0
    assert written[2].seconds_left == 0 and written[2].interval is not None
    run = RunFolder(tmp_path / "run")
    assert read_status(run) == written[-1]
    assert "Finished after 4 steps." in run.page_file.read_text(encoding="utf-8")


def test_interrupted_training_says_so_on_its_page(
    tmp_path: Path, train: Train, interrupt_when: Callable[..., Any]
) -> None:
    with interrupt_when("step 2/"):
        train(tmp_path / "run", {"train.max_steps": 50})
    status = read_status(RunFolder(tmp_path / "run"))
    assert status.state == "stopped" and "--resume" in status.message
    train(tmp_path / "run", {"train.max_steps": 50}, resume=True)
    assert read_status(RunFolder(tmp_path / "run")).state == "finished"


def test_failed_training_says_why_on_its_page(tmp_path: Path, train: Train) -> None:
    with pytest.raises(RunError) as raised:
        train(tmp_path / "run", {"train.learning_rate": 1e38, "train.max_steps": 30})
    status = read_status(RunFolder(tmp_path / "run"))
    assert (status.state, status.message) == ("failed", str(raised.value))


def test_page_that_takes_long_is_written_less_often(
    tmp_path: Path, make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of a second is written again after 50 more; the status is written each time."""
    seconds, pages, states = [0.0], [], []

    def write_page(run: RunFolder) -> None:
        pages.append(seconds[0])
        seconds[0] += 1

    monkeypatch.setattr(run_page, "write_page", write_page)
    monkeypatch.setattr(run_page, "write_status", lambda run, status: states.append(status.step))
    logger: Any = SimpleNamespace(
        collapse=CollapseMonitor(200), images_per_second=None, steps_per_second=None
    )
    callback = RunPageCallback(RunFolder(tmp_path), logger, 1, lambda: seconds[0])
    state = TrainerState(0, 1000, make_model())
    callback.on_train_begin(state)
    for state.step in range(1, 12):
        seconds[0] = 10.0 * state.step
        callback.on_step_end(state)
    callback.on_end(state, "stopped", "Stopped.")
    assert pages == [0.0, 60.0, 110.0]
    assert states == [*range(12), 11]


def test_page_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(run: RunFolder) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(run_page, "write_page", full)
    assert train(tmp_path / "run").finished
    assert caplog.text.count("The run's page cannot be written: No space left on device") == 1
