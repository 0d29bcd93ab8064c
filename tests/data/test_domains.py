"""Where images come from, and what is said when there are none."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.base import Domain
from agit_hub.data.domains.files import FilesDomain
from agit_hub.data.domains.shapes import ShapesDomain
from agit_hub.data.load import load_domains
from agit_hub.errors import DataError
from agit_hub.evaluation.datasets import SHAPES_SEED

# A QOI image of 8 x 8 whose pixels are missing: Pillow's decoder runs off the end of the data.
CUT_QOI = b"qoif" + (8).to_bytes(4, "big") * 2 + b"\x03\x00"


def _save(path: Path, red: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (red, 0, 0)).save(path)
    return path


def _open(path: Path | str, name: str | None = None, size: int = 16) -> Domain:
    """The only domain at a path: beside it stands one that is always there."""
    other = DomainConfig("shapes", "striped")
    return load_domains(DomainConfig(str(path), name), other, size, 0)[0].domain


def _reds(domain: Domain) -> list[int]:
    assert domain.length is not None
    return [domain.image(0, row).getpixel((0, 0))[0] for row in range(domain.length)]  # type: ignore[index]


def test_a_folder_holds_its_images_and_those_below_in_the_order_of_paths(tmp_path: Path) -> None:
    # Saved in another order than that of their names.
    _save(tmp_path / "c.png", 4)
    _save(tmp_path / "b" / "z.bmp", 3)
    _save(tmp_path / "b" / "deep" / "er" / "x.webp")
    _save(tmp_path / "a.PNG", 1)
    _save(tmp_path / ".hidden.png")
    _save(tmp_path / "._c.png")
    (tmp_path / "labels.txt").write_text("a.PNG horse")
    (tmp_path / "notes").write_text("no ending")
    (tmp_path / "model.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "folder.png").mkdir()
    domain = _open(tmp_path)
    assert domain.length == 4
    names = [str(Path(domain.describe(0, k)).relative_to(tmp_path)) for k in range(4)]
    assert names == ["a.PNG", "b/deep/er/x.webp", "b/z.bmp", "c.png"]
    assert _reds(domain) == [1, 0, 3, 4]
    assert domain.image(0, 0).mode == "RGB" and domain.image(0, 0).size == (20, 16)


@pytest.mark.parametrize("hidden", [".thumbnails", ".ipynb_checkpoints/deep"])
def test_what_lies_in_a_hidden_folder_is_hidden_too(hidden: str, tmp_path: Path) -> None:
    root = tmp_path / ".cache" / "horses"  # that the folder itself lies in one is no matter
    _save(root / "a.png", 1)
    _save(root / hidden / "a.png", 2)
    assert _reds(_open(root)) == [1]


def test_images_come_upright_and_as_rgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("LA", (20, 16), (0, 0)).save(tmp_path / "a.png", exif=exif)
    image = _open(tmp_path).image(0, 0)
    assert image.mode == "RGB" and image.size == (16, 20)
    assert image.getpixel((0, 0)) == (255, 255, 255)


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _save(tmp_path / "cats" / "a.png")
    assert _open("~/cats").length == 1


def test_an_unusable_folder_is_refused_by_name(tmp_path: Path) -> None:
    _save(tmp_path / "one.png")
    (tmp_path / "empty" / "below").mkdir(parents=True)
    (tmp_path / "empty" / "read.me").write_text("nothing here")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"not a image")
    (tmp_path / "broken" / "b.jpg").write_bytes(b"")
    for name, said in (
        ("nowhere", "does not exist"),
        ("one.png", "is a file"),
        ("empty", "no images"),
        ("broken", "None of the 2 .* can be read"),
    ):
        with pytest.raises(DataError, match=said) as refusal:
            _open(tmp_path / name)
        assert str(tmp_path / name) in str(refusal.value)


def test_one_good_image_makes_a_domain_and_a_bad_one_fails_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"not a image")
    _save(tmp_path / "b.png", 9)
    domain = _open(tmp_path)
    assert domain.length == 2 and domain.image(0, 1).getpixel((0, 0)) == (9, 0, 0)
    with pytest.raises(OSError, match=r"a\.png"):
        domain.image(0, 0)


def test_a_damaged_image_of_any_format_does_not_close_the_folder(tmp_path: Path) -> None:
    (tmp_path / "a.qoi").write_bytes(CUT_QOI)
    _save(tmp_path / "b.png")
    assert _open(tmp_path).length == 2


@pytest.mark.parametrize("label", shapes.LABELS)
def test_shapes_are_drawn_at_the_size_that_is_asked_for(label: str) -> None:
    domain = _open("shapes", label, 24)
    assert isinstance(domain, ShapesDomain) and domain.length >= 1000
    for index in (0, domain.length - 1, 0):
        drawn, _ = shapes.draw(label, index, 24, seed=0)
        assert domain.image(0, index).tobytes() == drawn.tobytes()
    assert label in domain.describe(0, 7) and "7" in domain.describe(0, 7)
    # Evaluation draws what training has never seen.
    unseen, _ = shapes.draw(label, 0, 24, SHAPES_SEED)
    assert np.any(np.asarray(unseen) != np.asarray(domain.image(0, 0)))


@pytest.mark.parametrize(("name", "said"), [(None, "name.*None"), ("spotted", "name.*'spotted'")])
def test_shapes_need_one_of_two_names(name: str | None, said: str) -> None:
    with pytest.raises(DataError, match=said) as refusal:
        _open("shapes", name)
    assert "plain" in str(refusal.value) and "striped" in str(refusal.value)


def test_an_existing_folder_called_shapes_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(_open("shapes", "plain"), ShapesDomain)
    _save(tmp_path / "shapes" / "a.png", 5)
    domain = load_domains(DomainConfig("shapes"), DomainConfig("shapes"), 16, 0)[0].domain
    assert isinstance(domain, FilesDomain) and _reds(domain) == [5]
