"""What the page shows of a rendering."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agit_hub.inference.prediction import Rendering
from agit_hub.space.previews import attention_view, fit_size, outlines, save_preview


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))


def _rendering(width: int, height: int, mode: str = "RGB") -> Rendering:
    before = Image.new(mode, (width, height), (200, 100, 50, 128)[: len(mode)])
    attention = np.zeros((height, width), np.float32)
    attention[height // 4 : height // 2, width // 4 : width // 2] = 0.7
    return Rendering(before, before.copy(), attention)


def test_outlines_are_two_bands_inside_the_edge() -> None:
    attention = np.zeros((12, 12), np.float32)
    attention[2:10, 2:10] = 0.3
    shadow, line = outlines(attention)
    expected = np.zeros((12, 12), int)
    expected[2:10, 2:10], expected[3:9, 3:9], expected[4:8, 4:8] = 1, 2, 0
    assert np.array_equal(line, expected == 1) and np.array_equal(shadow, expected == 2)


def test_outlines_at_the_border_of_the_image_are_none() -> None:
    attention = np.zeros((8, 8), np.float32)
    attention[:, :4] = 1
    shadow, line = outlines(attention)
    # Only the edge inside the image: its last two columns.
    assert line[:, 3].all() and line.sum() == 8 and shadow[:, 2].all() and shadow.sum() == 8


@pytest.mark.parametrize("value", [0, 1])
def test_outlines_of_nothing_and_of_everything_are_none(value: int) -> None:
    assert not any(edge.any() for edge in outlines(np.full((9, 7), value, np.float32)))


def test_attention_view_leaves_pixels_without_attention_as_they_are() -> None:
    rendering = _rendering(40, 40)
    view, still = np.asarray(attention_view(rendering)), rendering.attention == 0
    assert (view[still] == (200, 100, 50)).all() and (view[~still] != (200, 100, 50)).any(-1).all()
    assert (view[10, 10:20] == 255).all()  # the line


@pytest.mark.parametrize(
    ("size", "mode", "suffix"),
    [((400, 300), "RGB", ".png"), ((1000, 900), "RGB", ".jpg"), ((1000, 900), "RGBA", ".png")],
)
def test_save_preview_is_lossless_where_that_is_fast(
    size: tuple[int, int], mode: str, suffix: str
) -> None:
    shown = save_preview(_rendering(*size, mode))
    assert Path(shown.output).suffix == suffix
    with Image.open(shown.output) as image:
        assert image.size == size
        difference = np.asarray(image, int) - np.asarray(_rendering(*size, mode).image, int)
        assert np.abs(difference).max() <= (0 if suffix == ".png" else 3)


def test_save_preview_of_a_large_image_is_as_sharp_as_the_page_needs() -> None:
    with Image.open(save_preview(_rendering(3000, 2000)).attention) as image:
        assert image.size == (1280, 853)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 50), (100, 50)), ((2560, 1280), (1280, 640)), ((10, 100_000), (1, 1280))],
)
def test_fit_size_keeps_the_aspect_and_never_enlarges(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fit_size(size, 1280) == expected
