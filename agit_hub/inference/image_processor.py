"""Conversion between images and tensors: PIL images, NumPy arrays and tensors in, and out again."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from agit_hub.config import MIN_SIZE, SIZE_MULTIPLE
from agit_hub.data.images import open_image, to_rgb
from agit_hub.environment import expand_home
from agit_hub.errors import ImageError, ImageTypeError
from agit_hub.inference.attention_maps import Map

ImageInput = Image.Image | str | Path | npt.NDArray[Any] | Tensor
"""A PIL image of any mode, or the path of one; an array (H, W, 3) or a tensor (3, H, W), uint8 or float
in [0, 1]; or a batch of arrays (N, H, W, 3) or tensors (N, 3, H, W)."""
OutputType = Literal["pil", "np", "pt"]

_ACCEPTED = (
    "a PIL image, the path of an image, an array (height, width, 3) or a tensor (3, height, width), "
    "uint8 or float in [0, 1]; or several of them in a list"
)
# The networks' input is at most this many times as long as `image_size`.
MAX_ASPECT = 4


def to_pil_images(images: ImageInput | Iterable[ImageInput]) -> Iterator[Image.Image]:
    """Yield each image as a PIL image, one by one, so that a stream of images is never held whole.

    Raises:
        ImageTypeError: For anything but images, or an array or tensor of another dtype.
        ImageError: For an array or tensor of another shape or range, or a file that is no image.
    """
    one = isinstance(images, Image.Image | str | Path | np.ndarray | Tensor)
    if not one and (isinstance(images, bytes | dict) or not isinstance(images, Iterable)):
        raise _not_an_image(images)
    items: Iterable[Any] = [images] if one else images  # type: ignore[assignment]
    for image in items:
        if isinstance(image, Image.Image):
            yield image
        elif isinstance(image, str | Path):
            yield _open(image)
        elif isinstance(image, np.ndarray | Tensor):
            yield from map(Image.fromarray, _to_uint8(image))
        else:
            raise _not_an_image(image)


def from_pil_image(image: Image.Image, output_type: OutputType) -> Any:
    """Convert a PIL image: `pil` as it is, `np` (H, W, 3) or `pt` (3, H, W), float32 in [0, 1]."""
    if output_type == "pil":
        return image
    pixels = np.asarray(to_rgb(image), dtype=np.float32) / 255
    return pixels if output_type == "np" else torch.from_numpy(pixels).permute(2, 0, 1)


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an RGB image to (1, 3, H, W) float32 in [-1, 1]."""
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return from_uint8(pixels.unsqueeze(0))


def from_uint8(pixels: Tensor) -> Tensor:
    """Convert uint8 in [0, 255] to float32 in [-1, 1], any shape."""
    return pixels.float() / 127.5 - 1


def to_pil(image: Tensor) -> Image.Image:
    """Convert (3, H, W) in [-1, 1] to an RGB image; values beyond the range are clipped."""
    pixels = ((image.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())


def to_map(attention: Tensor) -> Map:
    """Convert (1, H, W) in [0, 1] to a float32 array (H, W)."""
    array: Map = attention.detach().float().squeeze(0).cpu().numpy()
    return array


def working_size(width: int, height: int, shorter_side: int) -> tuple[int, int]:
    """Return the size of the networks' input for an image: its aspect kept, sides multiples of 4.

    Args:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        shorter_side: Length of the shorter side: the model's `image_size`. It is less for images
            longer than `MAX_ASPECT` times their height, to bound the computation.

    Returns:
        (width, height) in pixels, 16 or more.
    """
    scale = min(shorter_side / min(width, height), MAX_ASPECT * shorter_side / max(width, height))

    def fit(side: int) -> int:
        return max(MIN_SIZE, round(side * scale / SIZE_MULTIPLE) * SIZE_MULTIPLE)

    return fit(width), fit(height)


def _open(path: str | Path) -> Image.Image:
    if isinstance(path, str) and path.startswith(("http:", "https:", "data:")):
        raise ImageError(f"{path[:60]} is an address: download it, and pass the file's path.")
    return open_image(expand_home(path), str(path))


def _not_an_image(found: Any) -> ImageTypeError:
    what = "None" if found is None else f"of type {type(found).__name__}"
    return ImageTypeError(f"The image is {what}; expected {_ACCEPTED}.")


def _to_uint8(image: npt.NDArray[Any] | Tensor) -> npt.NDArray[np.uint8]:
    """Convert one image or a batch to (N, H, W, 3) in [0, 255]."""
    is_tensor = isinstance(image, Tensor)
    layout = "(3, H, W) or (N, 3, H, W)" if is_tensor else "(H, W, 3) or (N, H, W, 3)"
    kind = "A tensor" if is_tensor else "An array"
    pixels = _to_array(image) if isinstance(image, Tensor) else image
    if pixels.ndim not in (3, 4) or pixels.shape[-3 if is_tensor else -1] != 3 or not pixels.size:
        raise ImageError(f"{kind} of images has shape {layout}, not {tuple(pixels.shape)}.")
    if is_tensor:
        pixels = np.moveaxis(pixels, -3, -1)
    if pixels.dtype != np.uint8:
        if not np.issubdtype(pixels.dtype, np.floating):
            raise ImageTypeError(f"{kind} of images is uint8 or float, not {pixels.dtype}.")
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ImageError(
                f"Image values range from {pixels.min():g} to {pixels.max():g}; floats must be in [0, 1]."
            )
        pixels = (pixels * 255).round().astype(np.uint8)
    return np.ascontiguousarray(pixels).reshape(-1, *pixels.shape[-3:])


def _to_array(image: Tensor) -> npt.NDArray[Any]:
    tensor = image.detach().cpu()
    # NumPy has no bfloat16.
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
