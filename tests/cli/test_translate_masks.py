"""`agit translate --mask`."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.cli.conftest import SHADE, Translate, listing, paint

SIZE = (20, 16)


def _mask(path: Path, values: npt.ArrayLike) -> Path:
    """Save a mask whose columns have some values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.broadcast_to(np.asarray(values, np.uint8), (SIZE[1], SIZE[0]))
    Image.fromarray(columns).save(path)
    return path


def _columns(path: Path) -> list[int]:
    pixels = np.asarray(Image.open(path))[..., 0]
    assert (pixels == pixels[0]).all()
    return [int(value) for value in pixels[0]]


def test_translate_mask_file_limits_every_image(translate: Translate, work: Path) -> None:
    paint(work / "photos" / "a.png")
    paint(work / "photos" / "b.png", size=(40, 32))
    _mask(work / "mask.png", [0] * 5 + [51] * 5 + [255] * 10)
    done = translate("photos", "--mask", "mask.png", "--feather", "8")
    assert done.exit_code == 0, done.output
    # Between, the feather takes from what the mask allows, but never adds to it.
    columns = _columns(work / "out" / "a.png")
    assert columns[:5] == [100] * 5 and columns[-5:] == [SHADE] * 5
    assert max(columns[5:10]) <= 100 + 0.2 * (SHADE - 100)
    assert _columns(work / "out" / "b.png")[:10] == [100] * 10


def test_translate_mask_folder_takes_the_mask_of_each_image(
    translate: Translate, work: Path
) -> None:
    for name in ("a", "deep/b"):
        paint(work / "photos" / f"{name}.png")
    _mask(work / "photos" / "masks" / "a.png", [255] * 10 + [0] * 10)
    _mask(work / "photos" / "masks" / "deep" / "b.jpg", [0] * 20)
    done = translate("photos", "--mask", "photos/masks")
    assert done.exit_code == 0 and done.stderr == "2 masks among the images not translated\n"
    assert listing(work / "out") == ["a.png", "deep/b.png"]
    assert _columns(work / "out" / "a.png") == [SHADE] * 10 + [100] * 10
    assert (
        Image.open(work / "out" / "deep" / "b.png").tobytes()
        == Image.open(work / "photos" / "deep" / "b.png").tobytes()
    )


def test_translate_mask_as_attention_replaces_the_networks(
    translate: Translate, work: Path
) -> None:
    """Towards horse the network's own attention is 0, so that a region has nothing to keep."""
    paint(work / "a.png")
    _mask(work / "mask.png", [0] * 10 + [255] * 10)
    for use, expected in (("region", 100), ("attention", 50)):
        done = translate(
            *("a.png", "--mask", "mask.png", "--mask-as", use, "--to", "horse", "--out", use),
            *("--feather", "6"),
        )
        assert done.exit_code == 0, done.output
        columns = _columns(work / use / "a.png")
        assert columns[:10] == [100] * 10 and columns[-1] == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mask", "masks"), "no mask for 1 of 2 images (photos/b.png)"),
        (("--mask", "none"), "--mask none does not exist"),
        (("--mask-as", "attention"), "--mask-as is attention, and --mask is missing"),
        (("--mask", "masks", "--mask-as", "attention", "--invert"), "--invert is set: invert the mask"),
    ],
)  # fmt: skip
def test_translate_unusable_mask_is_refused_before_the_work(
    translate: Translate, work: Path, arguments: tuple[str, ...], message: str
) -> None:
    for name in "ab":
        paint(work / "photos" / f"{name}.png")
    _mask(work / "masks" / "a.png", 255)
    done = translate("photos", *arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert not (work / "out").exists() or listing(work / "out") == []


def test_translate_mask_of_another_shape_fails_its_image_alone(
    translate: Translate, work: Path
) -> None:
    paint(work / "photos" / "a.png")
    paint(work / "photos" / "b.png", size=(16, 20))
    done = translate("photos", "--mask", str(_mask(work / "mask.png", 255)))
    assert done.exit_code == 1 and listing(work / "out") == ["a.png"]
    assert "b.png: The mask is 20 x 16 pixels and its image 16 x 20" in done.stderr
