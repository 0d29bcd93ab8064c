"""What the networks propose for one picture, to be steered as often as one likes without them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image
from torch import Tensor

from agit_hub.data.images import to_rgb
from agit_hub.inference.compositing import composite_image, generated_image
from agit_hub.inference.edits import AttentionEdits, steer
from agit_hub.inference.guided_upsampling import upsample_map
from agit_hub.inference.image_processor import Map
from agit_hub.visualization import overlay, side_by_side

AS_PROPOSED = AttentionEdits()


@dataclass(frozen=True, eq=False)
class Rendering:
    """One picture's translation, and the attention that decided where."""

    input: Image.Image
    """The picture, upright."""
    image: Image.Image
    """Its translation, of the same size and mode."""
    attention: Map
    """The final map: float32 (H, W) in [0, 1]."""

    def overlay(self, strength: float = 0.6) -> Image.Image:
        """The input under a heat map of the final attention."""
        return overlay(to_rgb(self.input), self.attention, strength)

    def scaled(self, size: tuple[int, int]) -> "Rendering":
        """The same at another size (width, height), to be shown: RGB, or RGBA where it was."""
        before, after = _plain(self.input), _plain(self.image)
        if size == before.size:
            return Rendering(before, after, self.attention)
        attention = Image.fromarray(self.attention).resize(size, Image.Resampling.BOX)
        return Rendering(
            before.resize(size, Image.Resampling.BICUBIC, reducing_gap=2),
            after.resize(size, Image.Resampling.BICUBIC, reducing_gap=2),
            np.asarray(attention),
        )

    def panel(self) -> Image.Image:
        """Input, attention over the input and translation side by side, RGB."""
        return side_by_side([to_rgb(self.input), self.overlay(), to_rgb(self.image)])


@dataclass(frozen=True, eq=False)
class Prediction:
    """A map and a change for one picture, at the networks' working size (h, w)."""

    picture: Image.Image
    """The picture, upright, in the mode in which its translation is handed back."""
    seen: Tensor
    """What the networks saw: (1, 3, h, w) in [-1, 1], on the CPU."""
    attention: Tensor
    """Their map: (1, 1, h, w) in [0, 1]."""
    change: Tensor
    """F(s) - s: (1, 3, h, w) in [-2, 2]. The change is enlarged, not the translation, so that a large
    picture keeps its own detail."""
    threshold: float
    """The model's own tau."""

    @cached_property
    def raw_attention(self) -> Map:
        """The network's map at the picture's size, before threshold and edits: (H, W) in [0, 1]."""
        return upsample_map(self.attention, self.seen, to_rgb(self.picture))

    @property
    def generated(self) -> Image.Image:
        """The generator's whole picture before compositing: RGB, at the picture's size."""
        return generated_image(to_rgb(self.picture), self.change)

    def render(self, edits: AttentionEdits = AS_PROPOSED) -> Rendering:
        """Composite the translation, with attention steered as wished; no network runs.

        Raises:
            EditError: If a wish cannot be followed.
        """
        attention = steer(self.raw_attention, edits, self.threshold)
        image = composite_image(self.picture, self.change, attention)
        return Rendering(self.picture, image, attention)


def _plain(picture: Image.Image) -> Image.Image:
    return picture if picture.mode in ("RGB", "RGBA") else to_rgb(picture)
