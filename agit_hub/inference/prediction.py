"""The networks' output for one image, which can be rendered with any edits without running them again."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image
from torch import Tensor

from agit_hub.data.images import to_rgb
from agit_hub.inference.attention_maps import Map
from agit_hub.inference.compositing import composite_image, generated_image
from agit_hub.inference.edits import AttentionEdits, apply_edits
from agit_hub.inference.guided_upsampling import upsample_map
from agit_hub.visualization import overlay, side_by_side

NO_EDITS = AttentionEdits()


@dataclass(frozen=True, eq=False)
class Rendering:
    """One image's translation and its attention."""

    input: Image.Image
    """The upright image."""
    image: Image.Image
    """Its translation, of the same size and mode."""
    attention: Map
    """The final map: float32 (H, W) in [0, 1]."""

    def overlay(self, strength: float = 0.6) -> Image.Image:
        """Draw the final attention as a heat map over the input, RGB."""
        return overlay(to_rgb(self.input), self.attention, strength)

    def resize(self, size: tuple[int, int]) -> "Rendering":
        """Resize for display to a size (width, height): RGB, or RGBA where it was."""
        before, after = _displayable(self.input), _displayable(self.image)
        if size == before.size:
            return Rendering(before, after, self.attention)
        attention = Image.fromarray(self.attention).resize(size, Image.Resampling.BOX)
        return Rendering(
            before.resize(size, Image.Resampling.BICUBIC, reducing_gap=2),
            after.resize(size, Image.Resampling.BICUBIC, reducing_gap=2),
            np.asarray(attention),
        )

    def panel(self, max_height: int | None = None) -> Image.Image:
        """Draw input, attention over the input and translation side by side, RGB."""
        width, height = self.input.size
        if max_height is not None:
            size = max(1, round(width * min(height, max_height) / height)), min(height, max_height)
            return self.resize(size).panel()
        return side_by_side([to_rgb(self.input), self.overlay(), to_rgb(self.image)])


@dataclass(frozen=True, eq=False)
class Prediction:
    """A map and a change for one image, at the networks' size (h, w)."""

    input: Image.Image
    """The upright image, in the mode of its translation."""
    network_input: Tensor
    """The image at the networks' size: (1, 3, h, w) in [-1, 1], on the CPU."""
    attention: Tensor
    """The network's map: (1, 1, h, w) in [0, 1]."""
    change: Tensor
    """F(s) - s: (1, 3, h, w) in [-2, 2]. It is upsampled instead of the translation, so that a large
    image keeps its own detail."""
    threshold: float
    """The model's own tau."""

    @cached_property
    def raw_attention(self) -> Map:
        """The network's map at the image's size, before threshold and edits: (H, W) in [0, 1]."""
        return upsample_map(self.attention, self.network_input, to_rgb(self.input))

    @property
    def generated(self) -> Image.Image:
        """The generator's output before compositing: RGB, at the image's size."""
        return generated_image(to_rgb(self.input), self.change)

    def render(self, edits: AttentionEdits = NO_EDITS) -> Rendering:
        """Composite the translation with edited attention; no network runs.

        Raises:
            EditError: If an edit does not match the image.
        """
        attention = apply_edits(self.raw_attention, edits, self.threshold)
        return Rendering(self.input, composite_image(self.input, self.change, attention), attention)


def _displayable(image: Image.Image) -> Image.Image:
    return image if image.mode in ("RGB", "RGBA") else to_rgb(image)
