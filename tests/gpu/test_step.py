"""A training step on a GPU: equal to the step on the CPU, in every precision, without a device sync."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor

from agit_hub.data.loader import Batch
from agit_hub.models.ema import MovingAverage
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import parse
from agit_hub.training.metrics import MeanMetrics
from agit_hub.training.schedule import Schedule
from agit_hub.training.setup import build_networks
from agit_hub.training.step import Step

pytestmark = pytest.mark.gpu
SIZE = 32
RECIPES = ("paper", "official", "horse2zebra")


def configure(recipe: str, *options: str) -> TrainConfig:
    preset = ("--config", recipe)
    small = ("--model.channels=8", "--model.blocks=2", "--model.attention_channels=8")
    sizes = (f"--model.image_size={SIZE}", "--data.crop_size=null", "--train.pool_size=3")
    places = ("--data.source.path=a", "--data.target.path=b", "--output_dir=c")
    # Augmentation draws other numbers on another device.
    plain = ("--train.mixed_precision=no", "--train.batch_size=2", "--train.augment=false")
    return parse([*preset, *small, *sizes, *places, *plain, *options]).config


def make_batch(device: torch.device, count: int = 2) -> Batch:
    random = torch.Generator().manual_seed(5)
    source, target = (torch.rand((count, 3, SIZE, SIZE), generator=random) * 2 - 1 for _ in "st")
    return Batch(source.to(device), target.to(device))


def make_step(config: TrainConfig, device: torch.device, precision: str = "no") -> Step:
    AcceleratorState._reset_state(True)
    PartialState._reset_state()
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=precision)
    networks = build_networks(config, warm=False).to(device)
    return Step(networks, config.train, accelerator, pool_seed=0)


def stepped(step: Step, config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Run a step in which every loss counts, and return its metrics."""
    phase = Schedule(config.train, 10).phase(config.train.lambda_cyc_warmup_steps)
    batch = make_batch(device)
    more = [[batch]] * (config.train.discriminator_updates - 1)
    return {name: value.item() for name, value in step([batch], phase, more).items()}


def _gradients(step: Step) -> dict[str, Tensor]:
    """Return Adam's first moments by weight name: after one step, a fixed share of the gradients."""
    moments: dict[str, Tensor] = {}
    for optimizer in step.optimizers.values():
        state = optimizer.optimizer.state
        for name, weight in step.networks.named_parameters():
            if weight in state:
                moments[name] = state[weight]["exp_avg"].double().cpu()
    return moments


@pytest.mark.parametrize("recipe", RECIPES)
def test_step_fp32_equals_cpu(recipe: str, device: torch.device) -> None:
    config = configure(recipe)
    steps = make_step(config, torch.device("cpu")), make_step(config, device)
    expected, found = (
        stepped(step, config, where)
        for step, where in zip(steps, (torch.device("cpu"), device), strict=True)
    )
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    right, gradients = (_gradients(step) for step in steps)
    assert right.keys() == gradients.keys()
    largest = max(float(gradient.abs().max()) for gradient in right.values())
    for name, gradient in right.items():
        # The gradient of a bias before a norm is only rounding.
        tolerance = 1e-2 * float(gradient.abs().max()) + 1e-5 * largest
        assert (gradients[name] - gradient).abs().max() <= tolerance, name


@pytest.mark.parametrize("recipe", RECIPES)
def test_step_bf16_differs_by_rounding(recipe: str, device: torch.device) -> None:
    """By 5 % at most: bf16 has 8 bits."""
    config = configure(recipe)
    expected = stepped(make_step(config, device), config, device)
    found = stepped(make_step(config, device, "bf16"), config, device)
    assert found == pytest.approx(expected, rel=5e-2, abs=5e-2)


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_step_does_not_synchronise(recipe: str, precision: str, device: torch.device) -> None:
    """With full pools, several discriminator updates, metrics and the moving average."""
    config = configure(recipe)
    step = make_step(config, device, precision)
    average = MovingAverage(step.networks.model, 0.9)
    phase = Schedule(config.train, 10).phase(1)
    batch, metrics = make_batch(device), MeanMetrics()
    more = [[batch]] * (config.train.discriminator_updates - 1)

    def train() -> None:
        metrics.add_all(step([batch], phase, more))
        average.update()

    for _ in range(4):  # loads the kernels and fills the pools
        train()
    with _no_synchronisation(device):
        for _ in range(3):
            train()
    assert all(torch.isfinite(value) for value in metrics.means().values())


def _no_synchronisation(device: torch.device) -> AbstractContextManager[Any]:
    return _SyncRefused() if device.type == "cuda" else nullcontext()


class _SyncRefused(AbstractContextManager[None]):
    """Context in which waiting for the GPU raises an error."""

    def __enter__(self) -> None:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")

    def __exit__(self, *_: object) -> None:
        torch.cuda.set_sync_debug_mode("default")


def test_sync_refused_reading_a_value_raises(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("a CPU needs no synchronisation")
    value = torch.ones((), device=device)
    read: Callable[[], float] = value.item
    with pytest.raises(RuntimeError), _SyncRefused():
        read()
