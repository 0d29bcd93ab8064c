"""Masks as maps, and which mask belongs to which image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agit_hub.data.masks import array_map, fits, mask_map, match_masks, read_mask
from agit_hub.errors import MaskError


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), 255).save(path)
    return path


def _palette(*colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(np.arange(len(colours), dtype=np.uint8)[None], "P")
    image.putpalette([value for colour in colours for value in colour])
    return image


def _row(values: list[Any], dtype: Any) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=dtype))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (_row([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (_row([0, 13107, 65535], np.uint16), [0, 0.2, 1]),
        (_row([0, 0.25, 1], np.float32), [0, 0.25, 1]),
        (_row([0, 1, 63], np.uint8), [0, 1, 1]),  # classes
        (_row([0, 1, 64], np.uint8), [0, 1 / 255, 64 / 255]),
        (_row([0, 0, 0], np.uint8), [0, 0, 0]),
        (_row([False, True, True], bool), [0, 1, 1]),
        (_palette((0, 0, 0), (128, 0, 0), (0, 0, 1)), [0, 1, 1]),
        # A palette of greys is a scale, in whatever order.
        (_palette((255, 255, 255), (0, 0, 0), (51, 51, 51)), [1, 0, 0.2]),
        (Image.merge("LA", [_row([255, 255, 255], np.uint8), _row([255, 0, 51], np.uint8)]), [1, 0, 0.2]),
    ],
    ids=[
        *("grey", "16 bits", "float", "classes", "dark grey", "black", "bits"),
        *("palette of classes", "palette of greys", "transparent"),
    ],
)  # fmt: skip
def test_mask_map_reads_white_as_one(image: Image.Image, expected: list[float]) -> None:
    found = mask_map(image)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [expected], atol=1e-6)


def test_mask_map_is_upright() -> None:
    image = _row([0, 255], np.uint8)
    image.getexif()[0x0112] = 6
    assert mask_map(image).tolist() == [[0], [1]]


def test_array_map_reads_bytes_and_truth_values() -> None:
    assert array_map(np.array([[0, 255]], np.uint8)).tolist() == [[0, 1]]
    assert array_map(np.array([[0, 1]], np.int64)).tolist() == [[0, 1]]
    assert array_map(np.array([[False, True]])).tolist() == [[0, 1]]


def test_read_mask_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_file(tmp_path / "b.png").read_bytes()[:50])
    with pytest.raises(MaskError, match=r"mask .*a\.png cannot be read"):
        read_mask(tmp_path / "a.png")


def test_match_masks_finds_any_ending_and_own_folder(tmp_path: Path) -> None:
    masks = [_file(tmp_path / name) for name in ("1.png", "b/1.webp", "2.jpg", "zebra/3.png")]
    images = [Path("photos/a/1.jpg"), Path("photos/b/1.jpg"), Path("photos/2.jpeg"), Path("3.jpg")]
    found, missing = match_masks(tmp_path, images)
    assert found == dict(zip(images[:3], masks[:3], strict=True))
    assert missing == images[3:]
    assert match_masks(tmp_path, images, "zebra").found[images[3]] == masks[3]


def test_match_masks_of_another_folder_is_no_match_only_if_strict(tmp_path: Path) -> None:
    mask, image = _file(tmp_path / "testB" / "1.png"), Path("photos/testA/1.jpg")
    assert match_masks(tmp_path, [image]).missing == [image]
    assert match_masks(tmp_path, [image], strict=False).found == {image: mask}


def test_fits_allows_rounding_of_one_pixel() -> None:
    assert fits((100, 50), (201, 100)) and fits((1, 1), (7, 7))
    assert not fits((100, 50), (50, 100)) and not fits((100, 50), (100, 53))
