"""What a person is told of an error that ends a run."""

from pathlib import Path

import pytest
import torch

from agit_hub.cli.train import main
from agit_hub.training.step import Step
from tests.training.conftest import Arguments


@pytest.mark.parametrize("error", [None, MemoryError()], ids=["torch", "Python"])
def test_memory_that_runs_out_is_told_with_what_to_lower(
    error: MemoryError | None,
    tmp_path: Path,
    arguments: Arguments,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    step = Step.__call__

    def too_much(self: Step, *given: object) -> object:
        if len(self.pools["st"]):  # in the second step
            if error:
                raise error
            return torch.empty(1 << 60)
        return step(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Step, "__call__", too_much)
    settings = {"train.batch_size": 2, "train.checkpoint_every": 1}
    assert main(arguments(tmp_path, settings)) == 1
    (line,) = [ln for ln in capsys.readouterr().err.splitlines() if ln.startswith("error: ")]
    assert line.startswith(
        "error: Out of memory at step 1 with train.batch_size 2 and squares of 16"
    )
    assert line.endswith(f"The checkpoint {tmp_path / 'checkpoints' / 'step-00000001'} is safe.")


def test_an_error_that_nothing_is_known_of_is_not_hidden(
    tmp_path: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Something else")

    monkeypatch.setattr(Step, "__call__", fail)
    with pytest.raises(RuntimeError, match="Something else"):
        main(arguments(tmp_path))
