"""Images in every mode, and the mode of each one's translation."""

import numpy as np
import numpy.typing as npt
from PIL import Image

# Written out, so that a mode that the code forgets is noticed.
KEPT = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16", "I", "F")
# Palettes become RGB, or RGBA where a pixel is transparent.
TURNED = {"P": "RGB", "P-keyed": "RGBA", "PA": "RGBA", "I;16B": "I;16"}
MODES = {mode: mode for mode in KEPT} | TURNED


def in_mode(
    mode: str, layers: npt.NDArray[np.uint8], deep: npt.NDArray[np.int64] | None = None
) -> Image.Image:
    """Convert red, green, blue and alpha, or 16-bit greys, to an image of a mode.

    Args:
        mode: A key of `MODES`.
        layers: (H, W, 4).
        deep: (H, W), from 0 to 65535, for the modes of that depth; the red layer's if left out.
    """
    greys = layers[..., 0].astype(int) * 257 if deep is None else deep
    if mode == "I;16B":
        return Image.frombytes(mode, greys.shape[::-1], greys.astype(">u2").tobytes())
    if mode in ("I;16", "I", "F"):
        kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
        return Image.fromarray((greys / (65535 if mode == "F" else 1)).astype(kinds[mode]))
    image = Image.fromarray(layers)
    if mode.startswith("P"):
        palette = image.convert("RGB").quantize(64)
        if mode == "P-keyed":
            palette.info["transparency"] = 3
        return palette.convert("PA") if mode == "PA" else palette
    return image.convert(mode)


def noise(mode: str, size: tuple[int, int], seed: int) -> Image.Image:
    """Return an image (width, height) of random pixels; alpha takes all values."""
    random = np.random.default_rng(seed)
    width, height = size
    layers = random.integers(0, 256, (height, width, 4), dtype=np.uint8)
    return in_mode(mode, layers, random.integers(0, 2**16, (height, width)))
