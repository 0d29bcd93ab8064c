"""Eq. 1 in a picture's own integers, whatever its mode: where attention is 0, its very bytes."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from torch import Tensor

from agit_hub.data.images import DEEP_MODES, to_rgb
from agit_hub.inference.guided_upsampling import BandedUpsampler, bands
from agit_hub.inference.image_processor import Map

# In these a result is handed back; palettes, whose colours are too few, become RGB or RGBA.
KEPT_MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F")
# The weights with which Pillow makes a grey of red, green and blue.
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)

Floats = npt.NDArray[np.float32]


def upright(picture: Image.Image) -> Image.Image:
    """A picture as it is handed back: turned by its EXIF, in a mode that can hold any colour of it.

    Raises:
        OSError: If the picture's data are corrupt or truncated.
    """
    turned = ImageOps.exif_transpose(picture)
    if turned.mode in KEPT_MODES:
        return turned
    if turned.mode in DEEP_MODES:  # another order of bytes
        grey = Image.fromarray(np.asarray(turned).astype(np.uint16))
        grey.info = dict(turned.info)
        return grey
    return turned.convert("RGBA") if turned.has_transparency_data else to_rgb(turned)


def composite_image(picture: Image.Image, change: Tensor, attention: Map) -> Image.Image:
    """Blend a change into a picture by attention: s + s_a * (F(s) - s), a band of rows at a time.

    Args:
        picture: In one of `KEPT_MODES`.
        change: F(s) - s at the networks' size, (1, 3, h, w) in [-2, 2].
        attention: s_a, (H, W) in [0, 1].

    Returns:
        A picture of the same size, mode and `info`; a pixel is the input's where attention is 0.
    """
    result = picture.copy()
    enlarged = BandedUpsampler(change, picture.size)
    for top, bottom in bands(*picture.size):
        rows = attention[top:bottom]
        if rows.any():
            band = picture.crop((0, top, picture.width, bottom))
            step = _in_bytes(enlarged.rows(top, bottom))
            result.paste(_blend(band, step, rows), (0, top))
    return result


def generated_image(rgb: Image.Image, change: Tensor) -> Image.Image:
    """The generator's whole picture at the input's size: s + (F(s) - s), RGB.

    Args:
        rgb: The picture s.
        change: F(s) - s at the networks' size, (1, 3, h, w) in [-2, 2].
    """
    everywhere = np.ones((rgb.height, rgb.width), np.float32)
    return composite_image(rgb, change, everywhere)


def _blend(band: Image.Image, change: Floats, attention: Map) -> Image.Image:
    if band.mode in DEEP_MODES:
        return _blend_deep(band, change, attention)
    has_alpha = "A" in band.getbands()
    # The networks saw transparent parts on white; what is blended is the colour that lies beneath.
    colours = band.convert("RGBA").convert("RGB") if has_alpha else to_rgb(band)
    blended = np.asarray(colours, dtype=np.float32) + attention[..., None] * change
    pixels = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    translated = Image.fromarray(pixels)
    if band.mode == "1":
        translated = translated.convert("L").point(lambda value: 255 * (value > 127))
    translated = translated.convert(band.mode)
    if has_alpha:
        translated.putalpha(band.getchannel("A"))
    # Not every mode comes through RGB unharmed, so what is not attended to does not go that way.
    band.paste(translated, mask=Image.fromarray(attention > 0))
    return band


def _blend_deep(band: Image.Image, change: Floats, attention: Map) -> Image.Image:
    before = np.asarray(band)
    white = DEEP_MODES[band.mode]
    blended = before + attention.astype(np.float64) * (change @ _LUMA) * (white / 255)
    if before.dtype != np.float32:
        blended = np.rint(blended)
    after = np.clip(blended, 0, white).astype(before.dtype)
    return Image.fromarray(np.where(attention > 0, after, before))


def _in_bytes(change: Tensor) -> Floats:
    return np.asarray((change * 127.5).permute(1, 2, 0).numpy())
