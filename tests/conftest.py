"""What every test shares."""

import os

# Read by the libraries at import: no test may talk to anything beyond this machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# For the processes that tests start; Accelerate warns where it is not set.
os.environ["OMP_NUM_THREADS"] = "1"

import math
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from agit_hub.config import AGITConfig
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from agit_hub.models.backbone import FrozenBackbone, load_imagenet_weights

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from testing.hub_server import Hub

MakeModel = Callable[..., AGITModel]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # Tiny tensors gain nothing from more, and lose much when another process wants the cores.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def features() -> FrozenBackbone:
    """Those of ImageNet."""
    return load_imagenet_weights(FrozenBackbone())


@pytest.fixture
def hub() -> Iterator["Hub"]:
    """A Hub over loopback."""
    # Here, for a machine that only runs what is marked `gpu` lacks its web server.
    from testing.hub_server import Hub

    with Hub() as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """A real browser; of one file, because no test can run an event loop of its own beside it."""
    from playwright.sync_api import expect, sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    expect.set_options(timeout=20_000)  # two cores may be busy
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """Build tiny models, of random weights or of known maps and translations.

    `maps` are the two attention networks' values everywhere, for source and target images;
    `shades` are the bytes of the grey that the two generators paint; further arguments are the
    config's.
    """

    def make(
        *,
        maps: tuple[float, float] | None = None,
        shades: tuple[int, int] | None = None,
        **changes: Any,
    ) -> AGITModel:
        torch.manual_seed(0)
        tiny = {"image_size": 16, "channels": 4, "blocks": 1, "attention_channels": 4}
        labels = {"source_label": "horse", "target_label": "zebra"}
        model = AGITModel(AGITConfig(**(tiny | labels | changes)))  # type: ignore[arg-type]
        networks = (model.attention_s, model.attention_t)
        for network, value in zip(networks, maps or (), strict=bool(maps)):
            _settle(network.head, _logit(value))
        generators = (model.generator_st, model.generator_ts)
        for generator, shade in zip(generators, shades or (), strict=bool(shades)):
            _settle(generator.layers[-2], math.atanh(shade / 127.5 - 1))
        return model

    return make


def uneven(make_model: MakeModel, **changes: Any) -> AGITPipeline:
    """A pipeline whose maps take every value between 0 and 1."""
    model = make_model(**changes)
    for network in (model.attention_s, model.attention_t):
        network.head.weight.data.mul_(12)
    return AGITPipeline(model)


def _settle(layer: nn.Module, value: float) -> None:
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)


def _logit(share: float) -> float:
    # In float32 a sigmoid is exactly 1 from about 17 on; 1e-13 is as near to 0 as is of interest.
    return math.log(share / (1 - share)) if 0 < share < 1 else 30 * (2 * share - 1)
