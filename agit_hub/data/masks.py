"""Masks of images, white on objects: found in a folder by the paths of their images, and read as maps."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from agit_hub.data.images import UNREADABLE, image_extensions, open_encoded
from agit_hub.errors import MaskError

MaskMap = npt.NDArray[np.float32]
"""(H, W) in [0, 1]: 1 on objects."""

# Up to here the values of a mask are numbers of classes, and not a scale from black to white.
_MAX_CLASS = 63


class MaskMatch(NamedTuple):
    """The masks of a folder by their images."""

    found: dict[Path, Path]
    missing: list[Path]
    """Images without a mask."""


def match_masks(
    folder: Path, images: Sequence[Path], label: str | None = None, strict: bool = True
) -> MaskMatch:
    """Find the masks of images.

    A mask has its image's name, with any ending. Where several masks have one name, or several images, it
    also has the image's folders, as many as it takes (`a/1.png` for `photos/a/1.jpg`).

    Args:
        folder: Searched with its subfolders.
        images: Paths of the images.
        label: Masks in the subfolder of this name take precedence.
        strict: Whether the folders of a mask must be those of its image: where some images have none,
            `b/1.png` is not the mask of `a/1.jpg`.

    Raises:
        MaskError: If an image has several masks that fit equally well, or two images have one mask.
    """
    own = {} if label is None else _by_name(folder / label)
    others = _by_name(folder, without=None if label is None else folder / label)
    match = MaskMatch({}, [])
    for image in images:
        candidates = [(folder / (label or ""), own), (folder, others)]
        fitting = (
            _best(root, masks.get(image.stem, []), image, strict) for root, masks in candidates
        )
        if found := next(filter(None, fitting), None):
            match.found[image] = _only(folder, found, image)
        else:
            match.missing.append(image)
    _check_shared(folder, match.found)
    return match


def read_mask(path: Path) -> MaskMap:
    """Read a mask file: (H, W) in [0, 1]; see `mask_map`.

    Raises:
        MaskError: If it cannot be read.
    """
    try:
        with open_encoded(path) as image:
            return mask_map(image)
    except FileNotFoundError as error:
        raise MaskError(f"The mask {path} does not exist.") from error
    except UNREADABLE as error:
        raise MaskError(f"The mask {path} cannot be read: {error}") from error


def mask_map(image: Image.Image) -> MaskMap:
    """Convert the image of a mask to a map: white is 1, black 0, a transparent pixel 0.

    Numbers of classes, which are at most 63 or have colours of a palette, are 1, except for class 0.

    Raises:
        OSError: If its data are damaged.
    """
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "P" and not _is_grey(upright):
        return np.asarray(upright).astype(bool).astype(np.float32)
    if upright.mode == "1":
        return np.asarray(upright).astype(np.float32)
    if upright.mode[0] in "IF":
        return _scaled(np.asarray(upright), image.format != "JPEG")
    values = np.asarray(upright.convert("L"))
    if upright.has_transparency_data:
        opacity = np.asarray(upright.convert("RGBA"))[..., 3] / np.float32(255)
        values = np.rint(values * opacity).astype(np.uint8)
    return _scaled(values, image.format != "JPEG")


def decode_mask(data: Path | bytes) -> Image.Image:
    """Decode a mask file, given by its path or its content, as greys: white on objects.

    Raises:
        Exception: Of almost any type, if the data are damaged.
    """
    with open_encoded(data) as image:
        return Image.fromarray(np.rint(mask_map(image) * 255).astype(np.uint8))


def array_map(values: npt.NDArray[Any]) -> MaskMap:
    """Convert an array of integers or truth values to a map, as `mask_map` does with an image's."""
    if values.dtype == bool:
        return values.astype(np.float32)
    return _scaled(values, may_be_classes=True)


def fits(mask: tuple[int, int], image: tuple[int, int]) -> bool:
    """Return whether the sizes (width, height) of a mask and its image agree in their aspect."""
    return abs(mask[0] * image[1] - mask[1] * image[0]) <= max(*mask, *image)


def _is_grey(image: Image.Image) -> bool:
    colours = np.asarray(image.convert("RGB"))
    return bool((colours == colours[..., :1]).all())


def _scaled(values: npt.NDArray[Any], may_be_classes: bool) -> MaskMap:
    """Scale values to [0, 1] by the range of their type."""
    peak = float(values.max(initial=0))
    is_float = np.issubdtype(values.dtype, np.floating)
    # A black JPEG holds values near 0 too.
    if may_be_classes and not is_float and 0 < peak <= _MAX_CLASS:
        classes: MaskMap = np.not_equal(values, 0).astype(np.float32)
        return classes
    bounds = (1, 255, 65535) if is_float else (255, 65535)
    white = next((bound for bound in bounds if peak <= bound), peak)
    scaled: MaskMap = np.nan_to_num(np.clip(values.astype(np.float32) / np.float32(white), 0, 1))
    return scaled


def _by_name(folder: Path, without: Path | None = None) -> dict[str, list[Path]]:
    """Return the images below a folder by their stem."""
    endings = image_extensions()
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = without is not None and path.is_relative_to(without)
        if path.suffix.lower() in endings and path.is_file() and not inside:
            found.setdefault(path.stem, []).append(path)
    return found


def _best(root: Path, masks: Iterable[Path], image: Path, strict: bool) -> list[Path]:
    """Return the masks that share most of the image's folders, and have the fewest others."""
    fit: dict[Path, tuple[int, int]] = {}
    for mask in masks:
        folders = mask.relative_to(root).parent.parts
        shared = _shared_at_end(folders, image.parent.parts)
        if shared == len(folders) or not strict:
            fit[mask] = shared, shared - len(folders)
    best = max(fit.values(), default=None)
    return [mask for mask in fit if fit[mask] == best]


def _only(folder: Path, found: Sequence[Path], image: Path) -> Path:
    if len(found) > 1:
        listed = " and ".join(str(path.relative_to(folder)) for path in found[:2])
        raise MaskError(
            f"{folder} has {len(found)} masks for {image.name}, {listed} among them: give one the "
            f"folders of its image, {image.parent.name}/{image.stem}.png."
        )
    return found[0]


def _check_shared(folder: Path, masks: dict[Path, Path]) -> None:
    seen: dict[Path, Path] = {}
    for image, mask in masks.items():
        if mask in seen:
            name = mask.relative_to(folder)
            raise MaskError(
                f"{name} would be the mask of both {seen[mask]} and {image}: give masks the folders of "
                f"their images, {image.parent.name}/{image.stem}.png."
            )
        seen[mask] = image


def _shared_at_end(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
