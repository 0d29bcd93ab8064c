"""Messages of errors that end a run."""

import re
from pathlib import Path

import pytest
import torch

from agit_hub.cli.train import main
from agit_hub.training.step import Step
from tests.training.conftest import Arguments


@pytest.mark.parametrize("error", [None, MemoryError()], ids=["torch", "Python"])
def test_run_out_of_memory_names_settings_to_reduce(
    error: MemoryError | None,
    tmp_path: Path,
    arguments: Arguments,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = Step.__call__

    def fail_in_second_step(self: Step, *given: object) -> object:
        if len(self.pools["st"]):
            if error:
                raise error
            return torch.empty(1 << 60)
        return step(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Step, "__call__", fail_in_second_step)
    settings = {"train.batch_size": 2, "train.checkpointing_steps": 1}
    assert main(arguments(tmp_path, settings)) == 1
    (line,) = [ln for ln in capsys.readouterr().err.splitlines() if ln.startswith("error: ")]
    pattern = r"error: Out of memory at step 1 .*train\.batch_size 2 .*\b16\b.*data\.crop_size"
    assert re.match(pattern, line)
    assert line.endswith(f"The checkpoint {tmp_path / 'checkpoints' / 'step-00000001'} is safe.")


def test_run_unknown_error_is_raised_unchanged(
    tmp_path: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Something else")

    monkeypatch.setattr(Step, "__call__", fail)
    with pytest.raises(RuntimeError, match="Something else"):
        main(arguments(tmp_path))
