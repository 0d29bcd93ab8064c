"""The gallery of a model card: translations of images that may be published."""

from pathlib import Path

from PIL import Image

from agit_hub.atomic import atomic_path
from agit_hub.data.images import image_extensions, open_image
from agit_hub.errors import InputPathError
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.visualization import stacked

GALLERY_FILES = ("source-to-target.jpg", "target-to-source.jpg")
# Pixels, of a row of three images.
_WIDTH = 1200
_GAP = 8
_QUALITY = 88


def write_gallery(pipe: AGITPipeline, images: Path, folder: Path) -> dict[str, str]:
    """Translate images and draw, for each direction, a file with a row for every image.

    Args:
        pipe: The model.
        images: A folder with images in folders named as the model's labels, or `source` and `target`.
        folder: Where the files are written, each atomically.

    Returns:
        The file name of each direction's translations, by its target label.

    Raises:
        InputPathError: If `images` has no images.
        ImageError: If an image cannot be read.
    """
    files = {}
    labels = pipe.model.config.labels
    sides = zip(("source", "target"), labels, GALLERY_FILES, labels[::-1], strict=True)
    for side, label, name, to in sides:
        found = (
            path for folder in {side, Path(label).name} for path in (images / folder).glob("*")
        )
        paths = sorted(path for path in found if path.suffix.lower() in image_extensions())
        if paths:
            files[to] = name
            rows = [_row(pipe, path, to) for path in paths]
            with atomic_path(folder / files[to]) as draft:
                stacked(rows, _GAP).save(draft, "JPEG", quality=_QUALITY)
    if not files:
        raise InputPathError(
            f"The gallery {images} has no images: put some in its folders {' and '.join(labels)}."
        )
    return files


def _row(pipe: AGITPipeline, path: Path, to: str) -> Image.Image:
    """Draw input, attention over the input and translation of one image."""
    panel = pipe.predict(open_image(path), to).render().panel()
    height = round(panel.height * _WIDTH / panel.width)
    return panel.resize((_WIDTH, height), Image.Resampling.LANCZOS)
