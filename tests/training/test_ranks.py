"""Several processes hold one model, and no process waits for one that failed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agit_hub.cli.train import main
from agit_hub.training import trainer
from agit_hub.training.config_loader import parse
from agit_hub.training.trainer import Trainer
from tests.training.conftest import Arguments, Process, Train

States = Callable[[Path], dict[str, Any]]
TwoRanks = Callable[..., list[Process]]


def _train_from_own_model(*commands: list[str]) -> None:
    """Train with the arguments of this rank, as on machines whose disks differ."""
    raise SystemExit(main(commands[int(os.environ["RANK"])]))


@pytest.mark.slow
def test_ranks_with_different_models_train_that_of_the_first(
    tmp_path: Path,
    arguments: Arguments,
    train: Train,
    two_ranks: TwoRanks,
    states: States,
    assert_same: Callable[[Any, Any, str], None],
) -> None:
    for seed in (1, 2):
        train(tmp_path / f"model-{seed}", {"train.max_steps": 1, "train.seed": seed})
    found = {}
    for name, seeds in (("equal", (1, 1)), ("different", (1, 2))):
        commands = [
            arguments(
                tmp_path / name,
                {"train.max_steps": 2, "train.init_from": tmp_path / f"model-{seed}"},
            )
            for seed in seeds
        ]
        ranks = [rank.finish() for rank in two_ranks(commands, function=_train_from_own_model)]
        assert [code for code, _, _ in ranks] == [0, 0], ranks
        found[name] = states(tmp_path / name)
    for name, state in found["equal"].items():
        assert_same(found["different"][name]["metrics"], state["metrics"], name)
        if "training" in state:
            assert_same(found["different"][name]["training"], state["training"], name)


def _train_apart(*arguments: str) -> None:
    """Train, with one network of the second rank changed at the start."""
    run = Trainer(parse(arguments).config)
    if os.environ["RANK"] == "1":
        with torch.no_grad():
            for weight in run._networks.discriminator_t.parameters():
                weight.normal_()
    try:
        run.fit()
    except trainer.RunError as error:
        print(error, flush=True)


def test_ranks_with_different_weights_end_at_the_checkpoint(
    tmp_path: Path, arguments: Arguments, two_ranks: TwoRanks
) -> None:
    command = arguments(tmp_path / "run", {"train.max_steps": 1})
    for rank in two_ranks(command, function=_train_apart):
        _, _, printed = rank.finish()
        assert "discriminator_t" in printed and "differ between processes" in printed
    assert not list((tmp_path / "run").rglob("*.pt"))


def _fail_in_setup(*arguments: str) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("an error that nobody expects")

    trainer.setup_run = fail  # type: ignore[assignment]
    try:
        Trainer(parse(arguments).config)
    except Exception as error:
        print(type(error).__name__, error, flush=True)


def test_unexpected_error_of_the_first_rank_ends_the_others(
    tmp_path: Path, arguments: Arguments, two_ranks: TwoRanks
) -> None:
    first, second = two_ranks(arguments(tmp_path / "run"), function=_fail_in_setup)
    assert first.finish()[2].startswith("KeyError")
    printed = second.finish()[2]
    assert printed.startswith("RunError") and "an error that nobody expects" in printed
