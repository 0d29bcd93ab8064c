"""Masks: found by the paths of their images, whatever marks their objects."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from agit_hub.errors import MaskError
from agit_hub.evaluation.mask_folder import MaskFolder

OBJECT = np.zeros((8, 8), bool)
OBJECT[2:6, 3:7] = True
IMAGE = Image.new("RGB", (8, 8))


def _save(path: Path, values: npt.NDArray[np.generic] = OBJECT, mode: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if mode == "P":
        image = image.convert("L")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759)
    image.save(path)
    return path


@pytest.mark.parametrize(
    ("values", "mode", "name"),
    [
        (OBJECT, None, "bits.png"),
        ((OBJECT * 255).astype(np.uint8), None, "white.png"),
        (OBJECT.astype(np.uint8), None, "ones.png"),
        (np.where(OBJECT, 17, 0).astype(np.uint8), None, "class 17.png"),
        # Classes 1 and 2 of a palette whose colours are dark.
        (np.where(OBJECT, 1 + np.arange(8) % 2, 0).astype(np.uint8), "P", "palette.png"),
        ((OBJECT * 65535).astype(np.uint16), None, "16 bits.png"),
        (OBJECT.astype(np.float32), None, "float.tif"),
        (np.where(OBJECT, 0.9, 0.1).astype(np.float32), None, "soft float.tif"),
        # Antialiased: 128 and more is object.
        (np.where(OBJECT, 255, 100).astype(np.uint8), None, "soft.png"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_read_mask_finds_objects_whatever_marks_them(
    tmp_path: Path, values: npt.NDArray[np.generic], mode: str | None, name: str
) -> None:
    _save(tmp_path / name, values, mode)
    path = Path("photos") / f"{Path(name).stem}.jpg"
    found = MaskFolder(tmp_path, "horse", [path]).read(path, IMAGE)
    assert found.dtype == bool
    np.testing.assert_array_equal(found, OBJECT)


def test_read_black_jpeg_mask_is_empty(tmp_path: Path) -> None:
    """Its values are near 0, which are no classes."""
    _save(tmp_path / "1.jpg", (OBJECT * 3).astype(np.uint8))
    assert not MaskFolder(tmp_path, "horse", [Path("1.jpg")]).read(Path("1.jpg"), IMAGE).any()


def test_masks_of_images_with_one_name_are_told_apart_by_folders(tmp_path: Path) -> None:
    for folder, values in (("a", OBJECT), ("b", ~OBJECT)):
        _save(tmp_path / folder / "1.png", values)
    images = [Path("photos/a/1.jpg"), Path("photos/b/1.jpg")]
    masks = MaskFolder(tmp_path, "horse", images)
    np.testing.assert_array_equal(masks.read(images[0], IMAGE), OBJECT)
    np.testing.assert_array_equal(masks.read(images[1], IMAGE), ~OBJECT)


def test_masks_shared_by_two_images_or_ambiguous_are_refused(tmp_path: Path) -> None:
    _save(tmp_path / "one" / "1.png")
    with pytest.raises(MaskError, match=r"1\.png would be the mask of both .*a/1\.jpg"):
        MaskFolder(tmp_path / "one", "horse", [Path("a/1.jpg"), Path("b/1.jpg")])
    _save(tmp_path / "two" / "x" / "1.png")
    _save(tmp_path / "two" / "y" / "1.png")
    with pytest.raises(MaskError, match=r"2 masks for 1\.jpg, x/1\.png and y/1\.png"):
        MaskFolder(tmp_path / "two", "horse", [Path("a/1.jpg")])


def test_masks_description_depends_on_their_content(tmp_path: Path) -> None:
    _save(tmp_path / "masks" / "1.png")
    first = str(MaskFolder(tmp_path / "masks", "horse", [Path("1.jpg")]))
    assert first.startswith("masks masks, ") and str(tmp_path) not in first
    _save(tmp_path / "masks" / "1.png", ~OBJECT)
    assert str(MaskFolder(tmp_path / "masks", "horse", [Path("1.jpg")])) != first
