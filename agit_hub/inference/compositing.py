"""Eq. 1 in an image's own integers, whatever its mode: where attention is 0, its bytes are unchanged."""

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
    if band.mode in DEEP_MODES:
        return _blend_deep(band, change, attention)
    has_alpha = "A" in band.getbands()
    # The networks' input shows transparent parts on white; the colour beneath is what is blended.
    colours = band.convert("RGBA").convert("RGB") if has_alpha else to_rgb(band)
    blended = np.asarray(colours, dtype=np.float32) + attention[..., None] * change
    translated = Image.fromarray(np.clip(np.rint(blended), 0, 255).astype(np.uint8))
    if band.mode == "1":
        translated = translated.convert("L").point(lambda value: 255 * (value > 127))
    translated = translated.convert(band.mode)
    if has_alpha:
        translated.putalpha(band.getchannel("A"))
    # The conversion through RGB is lossy in some modes, so pixels without attention bypass it.
    band.paste(translated, mask=Image.fromarray(attention > 0))
    return band


def _blend_deep(band: Image.Image, change: Floats, attention: Map) -> Image.Image:
    before = np.asarray(band)
    low, high = deep_range(band)
    blended = before + attention.astype(np.float64) * (change @ _LUMA) * ((high - low) / 255)
    if before.dtype != np.float32:
        blended = np.rint(blended)
    after = np.clip(blended, low, high).astype(before.dtype)
    return Image.fromarray(np.where(attention > 0, after, before))
