"""`agit demo` translates examples, or a person's own images, and shows them on one page."""

import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from agit_hub.cli import app
from agit_hub.shipped import EXAMPLES, SMALL_MODEL
from tests.conftest import MakeModel


def demo(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["demo", *map(str, arguments)])


def images_of(page: Path) -> list[Path]:
    names = re.findall(r'src="([^"]+)"', page.read_text(encoding="utf-8"))
    return [page.parent / unquote(name) for name in names]


def test_demo_shows_examples_of_both_labels(tmp_path: Path) -> None:
    done = demo("--model", SMALL_MODEL, "--limit", 1, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    page = tmp_path / "index.html"
    assert str(page) in done.stdout
    text = page.read_text(encoding="utf-8")
    assert "plain → striped" in text and "striped → plain" in text
    assert "plain-1.png" in text and "striped-1.png" in text
    # Input, attention, output, and the input again to compare: of two images.
    shown = images_of(page)
    assert len(shown) == 8 and all(path.is_file() for path in shown)
    assert "Photographs" not in text  # drawings have no photographer


def test_demo_output_is_the_translation_and_its_input_the_image(
    tmp_path: Path, make_model: MakeModel
) -> None:
    """With a map of ones, the output is the generator's grey."""
    make_model(maps=(1.0, 0.0), shades=(200, 50)).save_pretrained(tmp_path / "model")
    photo = tmp_path / "<i>my photo.png"
    Image.new("RGB", (20, 16), (100, 100, 100)).save(photo)
    done = demo(photo, "--model", tmp_path / "model", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    before, _, after, _ = images_of(tmp_path / "out" / "index.html")
    assert set(np.asarray(Image.open(before)).ravel()) == {100}
    assert set(np.asarray(Image.open(after)).ravel()) == {200}
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "<i>" not in text and "&lt;i&gt;my photo.png" in text
    assert "0 % of the pixels are the input" in text


def test_demo_large_photograph_is_shown_smaller(tmp_path: Path, make_model: MakeModel) -> None:
    make_model(maps=(0.0, 0.0), shades=(200, 50)).save_pretrained(tmp_path / "model")
    Image.new("RGB", (2000, 500)).save(tmp_path / "wide.png")
    done = demo(tmp_path / "wide.png", "--model", tmp_path / "model", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    shown = images_of(tmp_path / "out" / "index.html")
    assert {Image.open(path).size for path in shown} == {(1280, 320)}
    assert {path.suffix for path in shown} == {".jpg"}


def test_demo_model_without_examples_asks_for_images(tmp_path: Path, make_model: MakeModel) -> None:
    model = tmp_path / "model"
    make_model(source_label="apple", target_label="../zebra").save_pretrained(model)
    done = demo("--model", model, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "apple or ../zebra" in done.stderr and "agit demo photo.jpg" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "tiger"], ["tiger", "plain", "striped"]),
        (["missing.png"], ["missing.png"]),
        (["--model", "no/such/folder"], ["no/such/folder"]),
    ],
)
def test_demo_mistakes_exit_with_a_sentence(
    tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    done = demo("--model", SMALL_MODEL, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2 and not done.stdout
    assert all(word in done.stderr for word in words)


def test_demo_of_photographs_names_their_authors(tmp_path: Path) -> None:
    """The drawings' model need not know horses to show them."""
    photo = EXAMPLES / "horse" / "brendon-van-zyl-PsdLrhj18bg-unsplash.jpg"
    done = demo(photo, "--model", SMALL_MODEL, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert "Brendon van Zyl" in (tmp_path / "index.html").read_text(encoding="utf-8")
