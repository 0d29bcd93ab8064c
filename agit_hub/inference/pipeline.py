"""AGITPipeline: any picture in, its translation out, with the attention that decided where."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Self

import torch
from PIL import Image

from agit_hub.backends.auto import BackendName, choose_backend
from agit_hub.backends.base import Backend, TorchBackend
from agit_hub.config import MIN_SIZE
from agit_hub.data.images import to_rgb
from agit_hub.inference.compositing import upright
from agit_hub.inference.edits import AttentionEdits, Box, Mask, Point
from agit_hub.inference.image_processor import Map, to_tensor, working_size
from agit_hub.inference.prediction import AS_PROPOSED, Prediction, Rendering
from agit_hub.inference.temporal_smoothing import TemporalSmoother
from agit_hub.models.agit import AGITModel
from agit_hub.visualization import overlay


@dataclass(frozen=True)
class TranslationOutput:
    """What a pipeline returns: one entry per input picture in each list."""

    images: list[Image.Image]
    """Translations, of the input's own size and mode; palettes come back as RGB or RGBA. Where
    `attention` is 0 their bytes are the (upright) input's."""
    attention: list[Map]
    """The final maps used in compositing: float32 (H, W) in [0, 1], at the input's size."""
    raw_attention: list[Map]
    """The network's maps, enlarged, before threshold and edits: float32 (H, W) in [0, 1]."""
    generated: list[Image.Image]
    """The generator's whole pictures, before compositing: RGB, at the input's size. Empty if they were
    not wanted."""
    inputs: list[Image.Image]
    """The pictures themselves, upright."""

    def overlay(self, index: int = 0, strength: float = 0.6) -> Image.Image:
        """One of the inputs under a heat map of its attention, RGB."""
        return overlay(to_rgb(self.inputs[index]), self.attention[index], strength)

    def overlays(self, strength: float = 0.6) -> list[Image.Image]:
        """All inputs under heat maps of their attention, RGB."""
        return [self.overlay(index, strength) for index in range(len(self.inputs))]


class AGITPipeline:
    """Translates pictures between the two domains of a model.

    Pictures of any size and shape: the networks see them at the size of their training (the aspect is
    kept), the map is enlarged with the picture as its guide, and the result is composited at the
    picture's own size, in its own integers.

    Args:
        model: The networks, on the device where they are to run.
        backend: What runs them (`agit_hub.backends`); PyTorch if left out.
    """

    def __init__(self, model: AGITModel, backend: Backend | None = None) -> None:
        self.model = model.eval()
        self.backend = backend or TorchBackend(model)

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | Path,
        revision: str | None = None,
        token: str | bool | None = None,
        device: str | torch.device | None = None,
        backend: BackendName = "auto",
        half: bool = False,
    ) -> Self:
        """Load from a Hub repo or a folder.

        Args:
            repo_or_folder: A repo id such as `user/agit-horse2zebra`, or a folder such as
                `runs/shapes/model`; an existing folder wins.
            revision: Branch, tag or commit of the repo.
            token: Access token, for private repos.
            device: Where to run; an accelerator when there is one, otherwise the CPU. `onnx` and
                `openvino` do not ask it.
            backend: `torch`, `compile`, `onnx`, `openvino`, or `auto`: see
                `agit_hub.backends.auto.choose_backend`.
            half: Whether 16 bits are precise enough, for `onnx` and `openvino`, and on a GPU.

        Raises:
            ModelLoadError: If what is there is not a usable AGIT model.
            BackendError: If the backend cannot be had here.
        """
        if backend in ("onnx", "openvino"):
            device = "cpu"
        if device is None:
            accelerator = torch.accelerator.current_accelerator(check_available=True)
            device = accelerator if accelerator is not None else torch.device("cpu")
        model = AGITModel.from_pretrained(
            repo_or_folder, revision=revision, token=token, device=device
        )
        return cls(model, choose_backend(model, backend, half))

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return next(self.model.parameters()).device

    def __call__(
        self,
        images: Image.Image | Iterable[Image.Image],
        to: str | None = None,
        threshold: float | None = None,
        attention: Mask | None = None,
        *,
        invert: bool = False,
        points: Sequence[Point] = (),
        every_point: bool = True,
        region: Mask | Box | None = None,
        paint: Mask | None = None,
        erase: Mask | None = None,
        feather: float = 0.0,
        strength: float = 1.0,
        batch_size: int = 1,
        return_generated: bool = True,
    ) -> TranslationOutput:
        """Translate one picture or several.

        Args:
            images: Pictures of any mode and size, of 16 pixels or more a side; EXIF orientation is
                applied.
            to: The label to translate to; the model's target when None.
            threshold: tau in [0, 1]: attention below it becomes exactly 0, attention above keeps its
                value. None takes the model's own; 0 composites by the network's map alone (Eq. 1).
            attention: A map of one's own in place of the network's, (H, W) in [0, 1] or a greyscale
                picture, scaled to each picture's size.
            invert: Attend to what the map leaves out.
            points: Keep only the objects at these places (x, y), in pixels.
            every_point: Whether a point where no attention is paid is an error; else it keeps nothing.
            region: Limit attention to a map, or to a box (left, top, right, bottom) in pixels.
            paint: Attend here as well; a map.
            erase: Attend here no longer; a map.
            feather: Pixels over which the map's edge fades.
            strength: Factor in [0, 1] on the final map.
            batch_size: How many pictures of one size the networks see at once; what comes out is the
                same but for rounding.
            return_generated: Whether `generated` is wanted: it takes time and memory on large pictures.

        Raises:
            ValueError: For an unknown label, a value out of range, a map that is not one, or a point
                where no attention is paid.
            TypeError: For anything but pictures.
        """
        edits = AttentionEdits(
            attention=attention,
            invert=invert,
            threshold=threshold,
            points=points,
            every_point=every_point,
            region=region,
            paint=paint,
            erase=erase,
            feather=feather,
            strength=strength,
        )
        output = TranslationOutput([], [], [], [], [])
        pictures = [images] if isinstance(images, Image.Image) else images
        for proposal in self.predictions(pictures, to, batch_size):
            rendering = proposal.render(edits)
            output.images.append(rendering.image)
            output.attention.append(rendering.attention)
            output.raw_attention.append(proposal.raw_attention)
            output.inputs.append(rendering.input)
            if return_generated:
                output.generated.append(proposal.generated)
        return output

    def predict(self, picture: Image.Image, to: str | None = None) -> Prediction:
        """Run the networks on one picture; what they say can then be steered without them.

        Args:
            picture: Any mode and size, of 16 pixels or more a side.
            to: The label to translate to; the model's target when None.

        Raises:
            ValueError: For an unknown label.
            TypeError: For anything but a picture.
        """
        (proposal,) = self.predictions([picture], to)
        return proposal

    def predictions(
        self, pictures: Iterable[Image.Image], to: str | None = None, batch_size: int = 1
    ) -> Iterator[Prediction]:
        """As `propose`, for pictures one by one as they come, of which no more than a batch is held."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 or more.")
        # Looked at one by one, so that a stream of pictures is never held as a whole.
        for _, same in groupby(map(_checked, pictures), self._working_size):
            while batch := list(islice(same, batch_size)):
                yield from self._propose(batch, to)

    def stream(
        self,
        frames: Iterable[Image.Image],
        to: str | None = None,
        edits: AttentionEdits = AS_PROPOSED,
        smoothing: float = 0.0,
    ) -> Iterator[Rendering]:
        """Translate pictures one by one as they come, such as the frames of a film.

        Args:
            frames: Pictures, from anywhere; no more than one is held.
            to: The label to translate to; the model's target when None.
            edits: What to change about attention, in every frame.
            smoothing: In [0, 1): how much of the frames before is kept in maps and changes wherever the
                picture is still, against flicker.
        """
        smoother = TemporalSmoother(smoothing)
        for frame in frames:
            yield smoother.smooth(self.predict(frame, to)).render(edits)

    def _propose(self, pictures: list[Image.Image], to: str | None) -> list[Prediction]:
        size = self._working_size(pictures[0])
        seen = torch.cat([to_tensor(_scaled(to_rgb(picture), size)) for picture in pictures])
        attention, generated = self.backend(seen, to)
        change = generated - seen
        return [
            Prediction(
                picture, seen[i : i + 1], attention[i : i + 1], change[i : i + 1], self.threshold
            )
            for i, picture in enumerate(pictures)
        ]

    @property
    def threshold(self) -> float:
        """The model's own tau: attention below it counts as background."""
        return self.model.config.attention_threshold

    def _working_size(self, picture: Image.Image) -> tuple[int, int]:
        return working_size(*picture.size, shorter_side=self.model.config.image_size)


def _checked(picture: Image.Image) -> Image.Image:
    if not isinstance(picture, Image.Image):
        raise TypeError(
            f"Pictures are PIL images, not {type(picture).__name__}: "
            "PIL.Image.open(path), or PIL.Image.fromarray(array)."
        )
    if min(picture.size) < MIN_SIZE:
        raise ValueError(
            f"A picture of {picture.width} x {picture.height} pixels is too small: "
            f"{MIN_SIZE} a side is the least."
        )
    return upright(picture)


def _scaled(rgb: Image.Image, size: tuple[int, int]) -> Image.Image:
    return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BICUBIC)
