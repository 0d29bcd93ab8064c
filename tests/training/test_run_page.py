"""A training keeps the page of its run: while it goes on, and however it ends."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agit_hub.errors import RunError
from agit_hub.run_page.status import RunStatus, read_status
from agit_hub.runs import RunFolder
from agit_hub.training.callbacks import run_page
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


def test_page_that_cannot_be_written_does_not_end_the_run(
    tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(run: RunFolder) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(run_page, "write_page", full)
    assert train(tmp_path / "run").finished
    assert caplog.text.count("The run's page cannot be written: No space left on device") == 1
