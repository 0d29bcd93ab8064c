"""The card and the animation: of any image, model and label."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agit_hub.inference.prediction import Rendering
from agit_hub.space.edits import make_edits
from agit_hub.space.service import SpaceService
from agit_hub.space.sharing import before_after, save_animation, share_card
from tests.space.conftest import DEMO_MODEL


def _rendering(width: int, height: int, mode: str = "RGB") -> Rendering:
    size = width, height
    before, after = Image.new(mode, size, "red"), Image.new(mode, size, "blue")
    return Rendering(before, after, np.zeros((height, width), np.float32))


def test_share_card_has_input_attention_and_output_in_a_row() -> None:
    card = share_card(_rendering(960, 480), "agit-horse2zebra", ("horse", "zebra"))
    # Three tiles of 480 x 240, 4 between, in a margin of 32; above them the heading's 54.
    assert card.width == 3 * 480 + 2 * 4 + 2 * 32
    row = np.asarray(card)[32 + 54 + 120]
    red, blue = (255, 0, 0), (0, 0, 255)
    assert (row[32 : 32 + 480] == red).all() and (row[516 : 516 + 480] == red).all()
    assert (row[1000 : 1000 + 480] == blue).all()


def test_share_card_names_model_labels_and_project() -> None:
    """The card differs where their names do, and nowhere else."""
    rendering = _rendering(96, 96)
    plain = np.asarray(share_card(rendering, "model", ("a", "b")), int)
    for other, rows in (
        (share_card(rendering, "other", ("a", "b")), slice(0, 86)),
        (share_card(rendering, "model", ("c", "d")), slice(86 + 96, 86 + 96 + 44)),
    ):
        changed = np.abs(np.asarray(other, int) - plain).any(axis=(1, 2))
        assert changed[rows].any() and changed.sum() == changed[rows].sum()
    assert (plain[86 + 96 + 44 :] != plain[0, 0]).any()  # the project's line


def test_share_card_of_a_long_name_is_smaller_before_it_is_cut() -> None:
    rendering = _rendering(960, 480)
    first, second = (
        np.asarray(share_card(rendering, "m" * 60 + end, ("a", "b"))) for end in ("i", "w")
    )
    assert (first != second).any()  # the name's last letter is there


@pytest.mark.parametrize("size", [(16, 3000), (3000, 16), (1, 1)])
@pytest.mark.parametrize("name", ["", "a\nb", "x" * 500, "\u99ac" * 200, "<b>&\u202e"])
def test_share_card_of_any_names_and_shapes_is_of_one_size(
    size: tuple[int, int], name: str
) -> None:
    card = share_card(_rendering(*size), name, (name, name))
    assert 480 <= card.width <= 1600 and card.height <= 700
    # Nothing is written into the margins.
    pixels = np.asarray(card)
    margins = (pixels[:, :16], pixels[:, -16:], pixels[:8])
    assert all((part == pixels[0, 0]).all() for part in margins)


def test_animation_wipes_from_input_to_output_and_back(tmp_path: Path) -> None:
    frames = before_after(_rendering(1600, 800))
    assert {frame.size for frame in frames} == {(640, 320)} and len(frames) == 40
    shares = [float((np.asarray(frame)[..., 2] == 255).mean()) for frame in frames]
    assert shares[0] == 0 and shares[20] == 1
    assert shares[:21] == sorted(shares[:21]) and shares[20:] == sorted(shares[20:], reverse=True)
    save_animation(frames, tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("WEBP", 40, 0)
        assert image.size == (640, 320)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "CMYK", "I;16"])
def test_service_shares_images_of_any_mode(mode: str, tmp_path: Path) -> None:
    service = SpaceService({"demo": str(DEMO_MODEL)})
    path = tmp_path / ("a/b c.tif" if mode == "CMYK" else "a/b c.png")
    path.parent.mkdir()
    drawn = (
        Image.new(mode, (64, 48)) if mode == "I;16" else Image.new("RGB", (64, 48)).convert(mode)
    )
    drawn.save(path)
    rendering = service.render(str(path), "striped", "demo", make_edits([]))
    card = Path(service.share_card(rendering, str(path), "striped", "demo"))
    loop = Path(service.animation(rendering, str(path)))
    assert (card.name, loop.name) == ("b_c-card.png", "b_c-before-after.webp")
    with Image.open(card) as image:
        assert image.mode == "RGB" and "exif" not in image.info
