"""Differentiable augmentation of the discriminators' inputs (Zhao et al., 2020)."""

import torch
import torch.nn.functional as F
from torch import Tensor

_SHIFT = 0.125
_CUT = 0.4
_BRIGHTNESS = 0.15


def augment(image: Tensor) -> Tensor:
    """Randomly change the brightness of each image, shift it, and cut out a square.

    Args:
        image: (N, 3, H, W) in [-1, 1]; pixels outside or cut out become 0.
    """
    count, _, height, width = image.shape
    device = image.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, device=device)

    image = image + (uniform(1, 1, 1) - 0.5) * 2 * _BRIGHTNESS * (image != 0)
    rows = torch.arange(height, device=device)
    columns = torch.arange(width, device=device)
    down = ((uniform(1) * 2 - 1) * _SHIFT * height).round().long()
    right = ((uniform(1) * 2 - 1) * _SHIFT * width).round().long()
    padded = F.pad(image, (1, 1, 1, 1))
    row = (rows + down + 1).clamp(0, height + 1)
    column = (columns + right + 1).clamp(0, width + 1)
    batch = torch.arange(count, device=device)[:, None, None]
    image = padded.permute(0, 2, 3, 1)[batch, row[:, :, None], column[:, None, :]].permute(
        0, 3, 1, 2
    )
    top, left = uniform(1) * height, uniform(1) * width
    in_rows = (rows - top).abs() < _CUT * height / 2
    in_columns = (columns - left).abs() < _CUT * width / 2
    hole = in_rows[:, :, None] & in_columns[:, None, :]
    return image * (~hole)[:, None].to(image.dtype)
