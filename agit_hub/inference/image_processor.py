"""Between pictures and tensors, and pictures of attention: heat maps, overlays, labelled grids."""

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from agit_hub.config import MIN_SIZE, SIZE_MULTIPLE

Map = npt.NDArray[np.float32]

# How many times as long as high a picture may be before the networks see it smaller.
LONGEST = 4


def to_tensor(picture: Image.Image) -> Tensor:
    """An RGB picture -> (1, 3, H, W) float32 in [-1, 1]."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    return from_uint8(pixels.unsqueeze(0))


def from_uint8(pixels: Tensor) -> Tensor:
    """uint8 in [0, 255] -> float32 in [-1, 1], any shape."""
    return pixels.float() / 127.5 - 1


def to_pil(image: Tensor) -> Image.Image:
    """(3, H, W) in [-1, 1] -> an RGB picture; values beyond the range are cut."""
    pixels = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def to_map(attention: Tensor) -> Map:
    """(1, H, W) in [0, 1] -> a float32 array (H, W)."""
    array: Map = attention.detach().float().squeeze(0).cpu().numpy()
    return array


def working_size(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """The size at which the networks see a picture: its aspect kept, sides multiples of 4.

    Args:
        width: Of the picture, in pixels.
        height: Likewise.
        shorter_side: What the shorter side becomes: the model's `image_size`. A strip more than
            `LONGEST` times as long as it is high becomes smaller, for the networks' work is bounded.

    Returns:
        (width, height) in pixels, 16 or more.
    """
    scale = min(shorter_side / min(width, height), LONGEST * shorter_side / max(width, height))

    def fit(side: int) -> int:
        return max(MIN_SIZE, round(side * scale / SIZE_MULTIPLE) * SIZE_MULTIPLE)

    return fit(width), fit(height)
