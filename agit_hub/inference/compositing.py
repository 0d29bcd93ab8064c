"""Eq. 1 in an image's own integers, whatever its mode: where attention is 0, its bytes are unchanged."""

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from torch import Tensor

from agit_hub.data.images import DEEP_MODES, deep_range, to_rgb
from agit_hub.inference.attention_maps import Map
from agit_hub.inference.guided_upsampling import BandedUpsampler, row_bands

# Modes of results; palettes, which have too few colours, become RGB or RGBA.
KEPT_MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F")
# Pillow's weights of red, green and blue in a grey.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


def to_upright(image: Image.Image) -> Image.Image:
    """Apply an image's EXIF orientation, and convert it to a mode that can hold any of its colours.

    Raises:
        OSError: If the image's data are corrupt or truncated.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode in KEPT_MODES:
        return upright
    if upright.mode in DEEP_MODES:  # another byte order
        grey = Image.fromarray(np.asarray(upright).astype(np.uint16))
        grey.info = dict(upright.info)
        return grey
    return upright.convert("RGBA") if upright.has_transparency_data else to_rgb(upright)


def composite_image(image: Image.Image, change: Tensor, attention: Map) -> Image.Image:
    """Blend a change into an image by attention, s + s_a * (F(s) - s), a band of rows at a time.

    Args:
        image: In one of `KEPT_MODES`.
        change: F(s) - s at the networks' size, (1, 3, h, w) in [-2, 2].
        attention: s_a, (H, W) in [0, 1].

    Returns:
        An image of the same size, mode and `info`; a pixel is the input's where attention is 0.
    """
    result = image.copy()
    upsampled = BandedUpsampler(change, image.size)
    for top, bottom in row_bands(*image.size):
        rows = attention[top:bottom]
        if rows.any():
            band = image.crop((0, top, image.width, bottom))
            step = (upsampled.rows(top, bottom) * 127.5).permute(1, 2, 0).numpy()
            result.paste(_blend(band, step, rows), (0, top))
    return result


def generated_image(rgb: Image.Image, change: Tensor) -> Image.Image:
    """Return the generator's output at the size of its input: s + (F(s) - s), RGB.

    Args:
        rgb: The image s.
        change: F(s) - s at the networks' size, (1, 3, h, w) in [-2, 2].
    """
    return composite_image(rgb, change, np.ones((rgb.height, rgb.width), np.float32))


def _blend(band: Image.Image, change: Floats, attention: Map) -> Image.Image:
    before = np.asarray(band)
    step = attention[..., None] * change
    if band.mode in DEEP_MODES:
        after = _shift_deep(before, step, *deep_range(band))
    elif band.mode == "CMYK":
        after = _shift_inks(before, step)
    else:
        after = np.asarray(_shift_colours(band, step))
    attended = attention > 0
    after = np.where(attended if before.ndim == 2 else attended[..., None], after, before)
    if "transparency" in band.info:
        after = _keep_key(before, after, band)
    # In Pillow's words an array of three bytes may be RGB, YCbCr or HSV.
    if band.mode in ("CMYK", "YCbCr", "HSV"):
        return Image.frombytes(band.mode, band.size, after.tobytes())
    return Image.fromarray(after)


def _shift_colours(band: Image.Image, step: Floats) -> Image.Image:
    has_alpha = "A" in band.getbands()
    # The networks' input shows transparent parts on white; the colour beneath is what is blended.
    colours = band.convert("RGBA").convert("RGB") if has_alpha else _opaque(band)
    before = np.asarray(colours)
    after = np.clip(np.rint(before + step), 0, 255).astype(np.uint8)
    translated = Image.fromarray(after)
    if band.mode == "1":
        translated = translated.convert("L").point(lambda value: 255 * (value > 127))
    translated = translated.convert(band.mode)
    if has_alpha:
        translated.putalpha(band.getchannel("A"))
    # The way to RGB and back is lossy for YCbCr and HSV.
    band = band.copy()
    band.paste(translated, mask=Image.fromarray((after != before).any(axis=-1)))
    return band


def _opaque(image: Image.Image) -> Image.Image:
    """Return an image as RGB, transparent pixels in the colour that they have."""
    plain = image.copy()
    plain.info.pop("transparency", None)
    return to_rgb(plain)


def _shift_inks(before: Bytes, step: Floats) -> Bytes:
    """Add a change of red, green and blue to CMYK, by its coloured inks while they suffice.

    Black ink that is there stays: it is lightened only where a colour becomes brighter than it allows.
    """
    inks = before.astype(np.float32)
    through_black = 255 - inks[..., 3:]
    light = through_black * (255 - inks[..., :3]) / 255
    wanted = np.clip(light + step, 0, 255)
    lightened = np.maximum(through_black, wanted.max(axis=-1, keepdims=True))
    coloured = 255 - 255 * wanted / np.maximum(lightened, 1e-6)
    # Below full black any coloured ink is possible.
    coloured = np.where(lightened > 0, coloured, inks[..., :3])
    after = np.concatenate([coloured, 255 - lightened], axis=-1)
    rounded: Bytes = np.clip(np.rint(after), 0, 255).astype(np.uint8)
    return rounded


def _shift_deep(
    before: npt.NDArray[Any], step: Floats, black: float, white: float
) -> npt.NDArray[Any]:
    """Add a change to greys of more than 8 bits; values beyond black and white stay possible."""
    shifted = before + (step @ _LUMA).astype(np.float64) * ((white - black) / 255)
    if before.dtype != np.float32:
        shifted = np.rint(shifted)
    low, high = np.minimum(before, black), np.maximum(before, white)
    return np.clip(shifted, low, high).astype(before.dtype)


def _keep_key(
    before: npt.NDArray[Any], after: npt.NDArray[Any], band: Image.Image
) -> npt.NDArray[Any]:
    """Keep pixels of a transparent colour, and all others away from it."""
    key = band.info["transparency"]
    if not isinstance(key, int | tuple) or before.dtype == bool:
        return after
    wanted = np.asarray(key)
    was, is_now = (
        (each == wanted) if each.ndim == 2 else (each == wanted).all(axis=-1)
        for each in (before, after)
    )
    taken = is_now & ~was
    result = after.copy()
    result[was] = before[was]
    # One unit from the key, in the last channel.
    last = result if result.ndim == 2 else result[..., -1]
    last[taken] = np.where(last[taken] > 0, last[taken] - 1, 1)
    return result
