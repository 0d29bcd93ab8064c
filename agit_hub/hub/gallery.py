"""The gallery of a model card: translations of images that may be published."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from agit_hub.atomic import atomic_path
from agit_hub.data.images import image_extensions, open_image, to_rgb
from agit_hub.errors import InputPathError
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.inference.prediction import Rendering
from agit_hub.visualization import stacked

_PANELS = ("source-to-target", "target-to-source")
_FOLDER = "gallery"
GALLERY_FILES = re.compile(
    rf"(?:{'|'.join(_PANELS)})\.jpg|{_FOLDER}/(?:{'|'.join(_PANELS)})-\d+-(?:input|output)\.jpg"
)
"""Paths in the repository that a gallery may have."""
# Images of each direction that are also written on their own.
_SINGLE = 3
# Pixels, of the longer side of a single image.
_SIDE = 512
# Pixels, of a row of three images.
_WIDTH = 1200
_GAP = 8
_QUALITY = 88


@dataclass(frozen=True)
class Example:
    """One image before and after, as paths in the repository."""

    to: str
    """The label that it was translated to."""
    input: str
    output: str


@dataclass(frozen=True)
class Gallery:
    """The files of a gallery, as paths in the repository."""

    panels: Mapping[str, str]
    """Rows of input, attention and translation, by the label translated to."""
    examples: Sequence[Example]
    """The first images of each direction, for the Hub's own gallery and widget."""


def write_gallery(pipe: AGITPipeline, images: Path, folder: Path) -> Gallery:
    """Translate images and draw, for each direction, a file with a row for every image.

    The first images of each direction are also written on their own, before and after, at 512 pixels
    or less.

    Args:
        pipe: The model.
        images: A folder with images in folders named as the model's labels, or `source` and `target`.
        folder: Where the files are written, each atomically.

    Returns:
        The files.

    Raises:
        InputPathError: If `images` has no images.
        ImageError: If an image cannot be read.
    """
    panels: dict[str, str] = {}
    examples: list[Example] = []
    labels = pipe.model.config.labels
    sides = zip(("source", "target"), labels, _PANELS, labels[::-1], strict=True)
    for side, label, name, to in sides:
        found = (
            path for folder in {side, Path(label).name} for path in (images / folder).glob("*")
        )
        paths = sorted(path for path in found if path.suffix.lower() in image_extensions())
        if not paths:
            continue
        rows = []
        for number, path in enumerate(paths, start=1):
            rendering = pipe.predict(open_image(path), to).render()
            rows.append(_row(rendering))
            if number <= _SINGLE:
                stem = f"{_FOLDER}/{name}-{number}"
                examples.append(Example(to, f"{stem}-input.jpg", f"{stem}-output.jpg"))
                _save(_small(rendering.input), folder / examples[-1].input)
                _save(_small(rendering.image), folder / examples[-1].output)
        panels[to] = f"{name}.jpg"
        _save(stacked(rows, _GAP), folder / panels[to])
    if not panels:
        raise InputPathError(
            f"The gallery {images} has no images: put some in its folders {' and '.join(labels)}."
        )
    return Gallery(panels, examples)


def _row(rendering: Rendering) -> Image.Image:
    """Draw input, attention over the input and translation of one image."""
    panel = rendering.panel()
    height = round(panel.height * _WIDTH / panel.width)
    return panel.resize((_WIDTH, height), Image.Resampling.LANCZOS)


def _small(image: Image.Image) -> Image.Image:
    """Return an image for display, with its pixels alone: no comment, no place."""
    small = to_rgb(image).copy()
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    small.info.clear()
    return small


def _save(image: Image.Image, path: Path) -> None:
    with atomic_path(path) as draft:
        image.save(draft, "JPEG", quality=_QUALITY)
