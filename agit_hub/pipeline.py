"""AGITPipeline: any picture in, its translation out, with the attention that decided where."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from agit_hub.data.pictures import DEEP_MODES, to_rgb
from agit_hub.image_processor import Map, overlay, to_map, to_tensor, working_size
from agit_hub.modeling import AGITModel, Translation

# Modes in which a result is handed back; anything else (palette, 16-bit, ...) comes back as RGB(A).
_KEPT_MODES = ("RGB", "RGBA", "L", "LA", "CMYK")


@dataclass(frozen=True)
class TranslationOutput:
    """What a pipeline returns: one entry per input picture in each list."""

    images: list[Image.Image]
    """Translations, of the input's own size, and of its mode where that is RGB, RGBA, L, LA or CMYK;
    others come back as RGB or RGBA. Where `attention` is 0 their bytes are the (upright) input's."""
    attention: list[Map]
    """The final maps used in compositing: float32 (H, W) in [0, 1], at the input's size."""
    raw_attention: list[Map]
    """The network's maps, upsampled, before threshold and edits: float32 (H, W) in [0, 1]."""
    generated: list[Image.Image]
    """The generator's whole pictures, before compositing: RGB, at the input's size."""

    def overlays(self, strength: float = 0.6) -> list[Image.Image]:
        """The translations under heat maps of their attention."""
        pairs = zip(self.images, self.attention, strict=True)
        return [overlay(image, attention, strength) for image, attention in pairs]


class AGITPipeline:
    """Translates pictures between the two domains of a model.

    Pictures of any size and shape: the networks see them at the size of their training (the aspect is
    kept), and the result is composited at the picture's own size, in its own integers.

    Args:
        model: The networks, on the device where they are to run.
    """

    def __init__(self, model: AGITModel) -> None:
        self.model = model.eval()

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | Path,
        revision: str | None = None,
        token: str | bool | None = None,
        device: str | torch.device | None = None,
    ) -> Self:
        """Load from a Hub repo or a folder.

        Args:
            repo_or_folder: A repo id such as `user/agit-horse2zebra`, or a folder such as
                `runs/shapes/model`; an existing folder wins.
            revision: Branch, tag or commit of the repo.
            token: Access token, for private repos.
            device: Where to run; an accelerator when there is one, otherwise the CPU.

        Raises:
            ModelLoadError: If what is there is not a usable AGIT model.
        """
        if device is None:
            accelerator = torch.accelerator.current_accelerator(check_available=True)
            device = accelerator if accelerator is not None else torch.device("cpu")
        model = AGITModel.from_pretrained(
            repo_or_folder, revision=revision, token=token, device=device
        )
        return cls(model)

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return next(self.model.parameters()).device

    @torch.inference_mode()
    def __call__(
        self,
        images: Image.Image | Sequence[Image.Image],
        to: str | None = None,
        threshold: float | None = None,
        attention: npt.ArrayLike | Image.Image | None = None,
    ) -> TranslationOutput:
        """Translate one picture or several.

        Args:
            images: Pictures of any mode and size (16 pixels or more a side); EXIF orientation is
                applied.
            to: The label to translate to; the model's target when None.
            threshold: tau in [0, 1]: attention below it becomes exactly 0, attention above keeps its
                value. None takes the model's own; 0 composites by the network's map alone (Eq. 1).
            attention: A map of one's own in place of the network's, (H, W) in [0, 1] or a greyscale
                picture, scaled to each picture's size.

        Raises:
            ValueError: For an unknown label, a threshold out of range, or a map that is not one.
        """
        pictures = [images] if isinstance(images, Image.Image) else list(images)
        for picture in pictures:
            if not isinstance(picture, Image.Image):
                raise TypeError(
                    f"Pictures are PIL images, not {type(picture).__name__}: "
                    "PIL.Image.open(path), or PIL.Image.fromarray(array)."
                )
        tau = self.model.config.attention_threshold if threshold is None else threshold
        if not 0 <= tau <= 1:
            raise ValueError(f"threshold is {threshold}; it must be between 0 and 1.")
        own = None if attention is None else _as_map(attention)
        output = TranslationOutput([], [], [], [])
        for picture in pictures:
            self._translate(picture, to, tau, own, output)
        return output

    def _translate(
        self,
        picture: Image.Image,
        to: str | None,
        tau: float,
        own: Map | None,
        output: TranslationOutput,
    ) -> None:
        upright = _in_kept_mode(ImageOps.exif_transpose(picture))
        rgb = to_rgb(upright)
        translation, change = self._run(rgb, to)
        raw = to_map(_resized(translation.attention, rgb.size)[0])
        final = _fit_map(own, rgb.size) if own is not None else raw
        final = np.where(final < tau, np.float32(0), final)
        generated = np.asarray(rgb, dtype=np.float32) + change
        output.images.append(_composite(upright, rgb, change, final))
        output.attention.append(final)
        output.raw_attention.append(raw)
        output.generated.append(Image.fromarray(_to_bytes(generated)))

    def _run(self, rgb: Image.Image, to: str | None) -> tuple[Translation, Map]:
        """Run the networks at their working size; return what they say, and F(s) - s in bytes.

        The change is enlarged, not the translation, so that a large picture keeps its own detail.
        """
        size = working_size(*rgb.size, shorter_side=self.model.config.image_size)
        seen = rgb.resize(size, Image.Resampling.BICUBIC) if size != rgb.size else rgb
        image = to_tensor(seen).to(self.device)
        translation = self.model(image, to)
        change = _resized(translation.generated - image, rgb.size)[0] * 127.5
        return translation, change.permute(1, 2, 0).cpu().numpy()


def _composite(upright: Image.Image, rgb: Image.Image, change: Map, attention: Map) -> Image.Image:
    """Eq. 1 in the picture's own integers: s + s_a * (F(s) - s), and s itself where s_a is 0."""
    has_alpha = "A" in upright.getbands()
    # The networks saw transparent parts on white; what is blended is the colour that lies beneath.
    colours = upright.convert("RGBA").convert("RGB") if has_alpha else rgb
    blended = np.asarray(colours, dtype=np.float32) + attention[..., None] * change
    translated = Image.fromarray(_to_bytes(blended)).convert(upright.mode)
    if has_alpha:
        translated.putalpha(upright.getchannel("A"))
    attended = Image.fromarray(attention > 0)
    result = upright.copy()
    result.paste(translated, mask=attended)
    return result


def _in_kept_mode(picture: Image.Image) -> Image.Image:
    if picture.mode in _KEPT_MODES:
        return picture
    if picture.mode in DEEP_MODES:
        return to_rgb(picture)
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    return to_rgb(picture)


def _resized(tensor: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    width, height = size
    if tensor.shape[-2:] == (height, width):
        return tensor
    return F.interpolate(
        tensor, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )


def _as_map(attention: npt.ArrayLike | Image.Image) -> Map:
    if isinstance(attention, Image.Image):
        white = DEEP_MODES.get(attention.mode)
        grey = attention if white else attention.convert("L")
        attention = np.asarray(grey, dtype=np.float32) / np.float32(white or 255)
    array = np.asarray(attention, dtype=np.float32)
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"attention has shape {array.shape}; a map is (height, width).")
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"attention ranges from {array.min():g} to {array.max():g}; a map lies in [0, 1]."
        )
    return array


def _fit_map(attention: Map, size: tuple[int, int]) -> Map:
    width, height = size
    if attention.shape == (height, width):
        return attention
    scaled = Image.fromarray(attention).resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(scaled, dtype=np.float32), 0, 1)


def _to_bytes(values: Map) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
