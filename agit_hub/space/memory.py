"""How much memory a remembered prediction holds."""

from typing import Any

from PIL import Image

from agit_hub.inference.prediction import Prediction

# Bytes of a pixel in Pillow's memory; of other modes 4.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2}
_MAP_BYTES = 4
# What files of results keep; the rest of a file's metadata is unused and may be of any size.
_USED_INFO = ("exif", "icc_profile", "dpi", "transparency")


def num_bytes(prediction: Prediction) -> int:
    """Return the bytes of a prediction: its image with metadata, its tensors, and its large map."""
    image = prediction.input
    tensors = (prediction.network_input, prediction.attention, prediction.change)
    width, height = image.size
    pixels = width * height * (_PIXEL_BYTES.get(image.mode, 4) + _MAP_BYTES)
    # A tensor may be a part of a larger one, which it keeps alive.
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage() for each in tensors}
    return pixels + sum(each.nbytes() for each in storages.values()) + _size(image.info)


def without_unused_info(image: Image.Image) -> Image.Image:
    """Return an image with only the metadata that results keep."""
    plain = image.copy()
    plain.info = {key: image.info[key] for key in _USED_INFO if key in image.info}
    return plain


def _size(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_size(key) + _size(each) for key, each in value.items())
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return len(value) if isinstance(value, bytes | str) else 8
