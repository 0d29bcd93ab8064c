"""Training with torch.compile."""

from collections.abc import Callable
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from agit_hub.cli.train import main
from agit_hub.training.config import TrainConfig
from agit_hub.training.trainer import Trainer
from tests.training.conftest import SIZE, Arguments, Process

Metrics = Callable[[Path], list[dict[str, float]]]


def test_torch_compile_compiles_six_networks_only(
    tmp_path: Path, configure: Callable[..., TrainConfig]
) -> None:
    trainers = [
        Trainer(configure(tmp_path / name, changes | {"train.ema_decay": 0.5}))
        for name, changes in (("compiled", {"train.torch_compile": True}), ("plain", {}))
    ]
    compiled, plain = (trainer._networks for trainer in trainers)
    for direction in ("st", "ts"):
        for kind in ("generator", "attention", "discriminator"):
            one, other = (getattr(each, kind)(direction) for each in (compiled, plain))
            assert one._compiled_call_impl is not None and other._compiled_call_impl is None
    assert list(compiled.state_dict()) == list(plain.state_dict())
    assert trainers[0].published.generator_st._compiled_call_impl is None


@pytest.mark.slow
def test_torch_compile_sample_grids_run_eagerly(
    tmp_path: Path, arguments: Arguments, process: type[Process]
) -> None:
    settings = {"model.image_size": 2 * SIZE, "data.crop_size": SIZE, "train.torch_compile": True}
    command = arguments(tmp_path, settings | {"train.switch.step": 2, "log.sample_steps": 1})
    code, log, printed = process([command], function=_train_and_print_compiled_sizes).finish()
    assert code == 0, log
    sides = set(map(int, printed.splitlines()[-1].split()))
    assert SIZE in sides and 2 * SIZE not in sides


def _train_and_print_compiled_sizes(arguments: list[str]) -> None:
    sides: set[int] = set()

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        """Run the graph itself, without compiling kernels, and record the sizes of its inputs."""
        sides.update(each.shape[-1] for each in inputs if getattr(each, "ndim", 0) == 4)
        return graph.forward

    nn.Module.compile = partialmethod(nn.Module.compile, backend=backend)  # type: ignore[assignment]
    assert main(arguments) == 0
    print(*sides, flush=True)


@pytest.mark.soak
def test_torch_compile_run_equals_eager_up_to_rounding(
    tmp_path: Path, arguments: Arguments, process: type[Process], metrics: Metrics
) -> None:
    """Compiling takes minutes."""
    settings = {"train.max_steps": 5, "train.switch.step": 3}
    runs = {compile: tmp_path / str(compile) for compile in (True, False)}
    for compile, run in runs.items():
        code, log, _ = process(arguments(run, settings | {"train.torch_compile": compile})).finish()
        assert code == 0, log
        assert "recompile_limit" not in log
    compiled, plain = (metrics(run) for run in runs.values())
    assert len(compiled) == len(plain) == 5
    for one, other in zip(compiled, plain, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    weights = [
        torch.load(next(run.rglob("state.pt")), weights_only=True)["training"]["networks"]
        for run in runs.values()
    ]
    # Adam amplifies rounding where a gradient is only rounding: most weights must be equal.
    for name, one in weights[0].items():
        if _is_before_a_norm(name, weights[0]):
            continue
        assert (one - weights[1][name]).abs().median() < 1e-4, name


def _is_before_a_norm(name: str, weights: dict[str, torch.Tensor]) -> bool:
    """Return whether it is the bias of a convolution before a norm, which removes it."""
    convolution = weights[name.removesuffix("bias") + "weight"] if name.endswith("bias") else None
    return convolution is not None and convolution.ndim == 4 and len(weights[name]) > 3
