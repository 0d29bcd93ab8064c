"""AGITPipeline: translates images of any size and mode, and returns their attention."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, Self, get_args

import torch
from PIL import Image

from agit_hub.backends.auto import BackendName, choose_backend
from agit_hub.backends.base import Backend, TorchBackend
from agit_hub.config import MIN_SIZE
from agit_hub.data.images import set_value_range, to_rgb
from agit_hub.errors import BackendError, ImageError
from agit_hub.inference.attention_maps import Map
from agit_hub.inference.compositing import to_upright
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.image_processor import (
    ImageInput,
    OutputType,
    from_pil_image,
    to_pil_images,
    to_tensor,
    working_size,
)
from agit_hub.inference.prediction import NO_EDITS, Prediction, Rendering
from agit_hub.inference.temporal_smoothing import TemporalSmoother
from agit_hub.models.agit import AGITModel
from agit_hub.models.loading_options import (
    DeviceMap,
    default_device,
    resolve_device,
    resolve_dtype,
)
from agit_hub.visualization import overlay


@dataclass(frozen=True)
class TranslationOutput:
    """A pipeline's output: one entry per input image in each list."""

    images: list[Any]
    """Translations, of the input's size and mode; palettes become RGB or RGBA. Where `attention` is 0
    their bytes are the (upright) input's. With `output_type` "np" arrays (H, W, 3), with "pt" tensors
    (3, H, W), float32 in [0, 1]."""
    attention: list[Map]
    """The final maps used in compositing: float32 (H, W) in [0, 1], at the input's size."""
    raw_attention: list[Map]
    """The network's maps, upsampled, before threshold and edits: float32 (H, W) in [0, 1]."""
    generated: list[Any]
    """The generator's outputs before compositing: RGB, at the input's size; of the type of `images`.
    Empty without `return_generated`."""
    inputs: list[Image.Image]
    """The upright input images."""

    def overlay(self, index: int = 0, strength: float = 0.6) -> Image.Image:
        """Draw the attention of one image as a heat map over it, RGB."""
        return overlay(to_rgb(self.inputs[index]), self.attention[index], strength)

    def overlays(self, strength: float = 0.6) -> list[Image.Image]:
        """Draw the attention of every image as a heat map over it, RGB."""
        return [self.overlay(index, strength) for index in range(len(self.inputs))]


class AGITPipeline:
    """Translates images between the two domains of a model.

    Images have any size and shape: the networks run at the size of their training (the aspect is kept),
    the map is upsampled with the image as its guide, and the result is composited at the image's own
    size, in its own integers.

    Args:
        model: The networks, on their device.
        backend: Runs the networks (see `agit_hub.backends`); PyTorch by default.
    """

    def __init__(self, model: AGITModel, backend: Backend | None = None) -> None:
        self.model = model.eval()
        self.backend = backend or TorchBackend(model)

    @classmethod
    def from_pretrained(
        cls,
        repo_or_folder: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | str | None = None,
        device_map: DeviceMap = None,
        backend: BackendName = "auto",
    ) -> Self:
        """Load from a Hub repo or a folder.

        Args:
            repo_or_folder: A repo id such as `user/agit-horse2zebra`; or a run folder such as
                `runs/shapes`, a model's folder or its `model.safetensors`. An existing path takes
                precedence.
            revision: Branch, tag or commit of the repo.
            token: Access token, for private repos.
            cache_dir: Folder for downloads.
            force_download: Download again what is already cached.
            local_files_only: Use the cache alone.
            device: By default the accelerator if there is one, and otherwise the CPU. `onnx` and
                `openvino` ignore it.
            dtype: `torch.float16` or `torch.bfloat16` runs most of the generators in 16 bits.
            torch_dtype: The same, as diffusers spells it.
            device_map: The same as `device`, as diffusers spells it; a model is never split.
            backend: `torch`, `compile`, `onnx`, `openvino` or `auto`: see
                `agit_hub.backends.auto.choose_backend`.

        Raises:
            ModelLoadError: If the folder or repo is not a usable AGIT model.
            BackendError: If the backend is unavailable, or does not support the dtype.
            UserError: If a device or dtype is none.
        """
        precision = resolve_dtype(dtype, torch_dtype)
        place = resolve_device(device, device_map) or default_device()
        if backend in ("onnx", "openvino"):
            place = torch.device("cpu")
        model = AGITModel.from_pretrained(
            repo_or_folder,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            force_download=force_download,
            local_files_only=local_files_only,
            device=place,
        )
        return cls(model, choose_backend(model, backend, precision))

    def save_pretrained(self, folder: str | Path, *, dtype: torch.dtype | None = None) -> None:
        """Save the model to a folder; `dtype` is that of the saved weights, by default the model's."""
        self.model.save_pretrained(folder, dtype=dtype)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Push the model to a Hub repo, with the options of `AGITModel.push_to_hub`; return its URL."""
        return str(self.model.push_to_hub(repo_id, **kwargs))

    def to(self, device: str | torch.device) -> Self:
        """Move the networks to a device.

        Raises:
            BackendError: If the backend does not run on it.
        """
        if not isinstance(self.backend, TorchBackend) and torch.device(device).type != "cpu":
            raise BackendError(
                f"The backend {self.backend.name} does not run on {device}: load the pipeline with "
                "backend='torch'."
            )
        self.model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next(self.model.parameters()).device

    @property
    def threshold(self) -> float:
        """The model's own tau: attention below it counts as background."""
        return self.model.config.attention_threshold

    def __call__(
        self,
        images: ImageInput | Iterable[ImageInput],
        to: str | None = None,
        edits: AttentionEdits = NO_EDITS,
        output_type: OutputType = "pil",
        *,
        batch_size: int = 1,
        return_generated: bool = True,
        **edit_options: Any,
    ) -> TranslationOutput:
        """Translate one image or several.

        Args:
            images: PIL images of any mode (EXIF orientation is applied) or paths of images, arrays
                (H, W, 3) or tensors (3, H, W) of uint8 or floats in [0, 1], of 16 pixels or more a side;
                one, a batch, or any number of them.
            to: The label to translate to; the model's target when None.
            edits: Edits of attention.
            output_type: "pil", "np" or "pt": the type of output images.
            batch_size: How many images of one size the networks process at once; results are equal up
                to rounding.
            return_generated: Whether to compute `generated`, which is slow for large images.
            **edit_options: Fields of `AttentionEdits`, such as `threshold=0.3`, that replace those of
                `edits`.

        Raises:
            ValueError: For an unknown label or output type, an invalid image, or an edit that does not
                match an image.
            TypeError: For inputs that are not images (`ImageTypeError`), and unknown options.
        """
        if output_type not in get_args(OutputType):
            raise ValueError(f"output_type is {output_type!r}; it must be 'pil', 'np' or 'pt'.")
        edits = replace(edits, **edit_options) if edit_options else edits
        output = TranslationOutput([], [], [], [], [])
        for prediction in self.predictions(images, to, batch_size):
            rendering = prediction.render(edits)
            output.images.append(from_pil_image(rendering.image, output_type))
            output.attention.append(rendering.attention)
            output.raw_attention.append(prediction.raw_attention)
            output.inputs.append(rendering.input)
            if return_generated:
                output.generated.append(from_pil_image(prediction.generated, output_type))
        return output

    def predict(self, image: ImageInput, to: str | None = None) -> Prediction:
        """Run the networks on one image; the prediction can then be rendered with any edits."""
        (prediction,) = self.predictions(image, to)
        return prediction

    def predictions(
        self,
        images: ImageInput | Iterable[ImageInput],
        to: str | None = None,
        batch_size: int = 1,
    ) -> Iterator[Prediction]:
        """Run the networks on images as they come; no more than a batch is in memory."""
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be 1 or more.")
        value_range = self.model.config.value_range(to)
        checked = (
            set_value_range(_check_image(image), value_range) for image in to_pil_images(images)
        )
        for _, same_size in groupby(checked, self._working_size):
            while batch := list(islice(same_size, batch_size)):
                yield from self._predict_batch(batch, to)

    def stream(
        self,
        frames: Iterable[ImageInput],
        to: str | None = None,
        edits: AttentionEdits = NO_EDITS,
        smoothing: float = 0.0,
    ) -> Iterator[Rendering]:
        """Translate images one by one as they come, such as the frames of a video.

        Args:
            frames: Images, of which no more than one is in memory.
            to: The label to translate to; the model's target when None.
            edits: Edits of attention, in every frame.
            smoothing: In [0, 1): temporal smoothing of maps and changes where the image is still,
                against flicker.
        """
        smoother = TemporalSmoother(smoothing)
        for prediction in self.predictions(frames, to):
            yield smoother.smooth(prediction).render(edits)

    def _predict_batch(self, images: list[Image.Image], to: str | None) -> list[Prediction]:
        size = self._working_size(images[0])
        inputs = torch.cat([to_tensor(_resize(to_rgb(image), size)) for image in images])
        attention, generated = self.backend(inputs, to)
        change = generated - inputs
        return [
            Prediction(
                image, inputs[i : i + 1], attention[i : i + 1], change[i : i + 1], self.threshold
            )
            for i, image in enumerate(images)
        ]

    def _working_size(self, image: Image.Image) -> tuple[int, int]:
        return working_size(*image.size, shorter_side=self.model.config.image_size)


def _check_image(image: Image.Image) -> Image.Image:
    if min(image.size) < MIN_SIZE:
        raise ImageError(
            f"An image of {image.width} x {image.height} pixels is too small: each side must be at "
            f"least {MIN_SIZE}."
        )
    return to_upright(image)


def _resize(rgb: Image.Image, size: tuple[int, int]) -> Image.Image:
    return rgb if rgb.size == size else rgb.resize(size, Image.Resampling.BICUBIC)
