"""Resizing of images to an extractor's input: each published code has its own, and KID depends on it."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

Resize = Literal["pillow", "pillow-float", "torch-bilinear", "tensorflow-bilinear"]
"""`pillow`: bicubic, antialiased, rounded to bytes. `pillow-float`: the same on float channels and not
rounded, as clean-fid does it. `torch-bilinear`: without antialiasing, as pytorch-fid does it.
`tensorflow-bilinear`: TensorFlow 1's bilinear without antialiasing, whose grid begins at the corner, as
the first FID code did it."""

_Resizer = Callable[[Image.Image, int], Tensor]


def resizer(name: Resize) -> _Resizer:
    """Return a function (RGB image, side) -> (3, side, side) pixels in 0 to 255.

    They are uint8 with `pillow`, and float32 otherwise.

    Raises:
        ModuleNotFoundError: If a package that it needs is not installed.
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
    plain: dict[str, _Resizer] = {
        "pillow": _pillow,
        "pillow-float": _pillow_float,
        "torch-bilinear": _torch_bilinear,
    }
    return plain[name]


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _pillow(image: Image.Image, side: int) -> Tensor:
    return _pixels(image.resize((side, side), Image.Resampling.BICUBIC))


def _pillow_float(image: Image.Image, side: int) -> Tensor:
    channels = [
        # As "F", 32-bit floats, nothing is rounded between rows, columns and features.
        np.asarray(channel.convert("F").resize((side, side), Image.Resampling.BICUBIC))
        for channel in image.split()
    ]
    # Bicubic filters overshoot at edges; clean-fid clips.
    return torch.from_numpy(np.stack(channels)).clamp(0, 255)


def _torch_bilinear(image: Image.Image, side: int) -> Tensor:
    pixels = _pixels(image).float()[None]
    return F.interpolate(pixels, size=(side, side), mode="bilinear", align_corners=False)[0]
