"""Labels of any script."""

import logging
import shutil

import numpy as np
import pytest
from PIL import Image, ImageFont

from agit_hub import fonts
from agit_hub.fonts import lettering
from agit_hub.visualization import labelled_grid


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without installed fonts."""
    monkeypatch.setattr(fonts, "_installed_font", lambda characters: None)


def test_lettering_plain_text_uses_built_in_font() -> None:
    found = lettering("horse, best", 12)
    assert found.text == "horse, best"
    assert bytes(found.font.getmask("x")) == bytes(ImageFont.load_default(12).getmask("x"))


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("\u9a6c", "U+9A6C"),
        ("\U0001f993 1", "zebra face 1"),
        ("caf\u00e9", "cafe"),
        ("\ufe0f", "?"),
    ],
)
def test_lettering_without_a_font_spells_characters(
    bare: None, text: str, spelled: str, caplog: pytest.LogCaptureFixture
) -> None:
    fonts._warn.cache_clear()
    with caplog.at_level(logging.WARNING, "agit_hub"):
        found = lettering(text, 12)
    assert found.text == spelled
    assert repr(text) in caplog.text and "fonts-noto-cjk" in caplog.text


@pytest.mark.skipif(shutil.which("fc-match") is None, reason="no fontconfig")
def test_lettering_takes_an_installed_font_that_has_all_characters() -> None:
    found = lettering("\u0436", 12)  # Cyrillic
    if found.text != "\u0436":
        pytest.skip("no such font here")
    drawn, box = (bytes(found.font.getmask(each)) for each in ("\u0436", "\U0010ffff"))
    assert drawn != box


def test_labelled_grid_draws_what_lettering_says(bare: None) -> None:
    tile = Image.new("RGB", (64, 64))
    heads = [np.asarray(labelled_grid([text], [[tile]], 128))[:20] for text in ("\u9a6c", "U+9A6C")]
    assert np.array_equal(*heads)
