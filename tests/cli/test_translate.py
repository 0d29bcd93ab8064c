"""`agit translate` with folders, files and patterns of images."""

import re
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from agit_hub.data.shapes import draw
from agit_hub.inference.image_io import save_image
from tests.cli.conftest import SHADE, STRIPED_MODEL, Translate, listing, paint

ORIENTATION, MAKE = 0x0112, 0x010F
AGIT = [sys.executable, "-m", "agit_hub.cli"]


def _colours(path: Path) -> list[tuple[int, ...]]:
    with Image.open(path) as image:
        return sorted({colour for _, colour in image.getcolors(2**16)})  # type: ignore[misc]


def test_translate_folder_keeps_structure(translate: Translate, work: Path) -> None:
    paint(work / "photos" / "a.png")
    paint(work / "photos" / "deep" / "er" / "b.png")
    paint(work / "photos" / ".hidden" / "c.png")
    paint(work / "photos" / "._d.png")
    (work / "photos" / "notes.txt").write_text("not an image")
    done = translate("photos")
    assert done.exit_code == 0 and done.stderr.splitlines() == [
        "2 hidden files skipped (._d.png, .hidden/c.png)",
        "1 .txt file skipped: not an image (notes.txt)",
    ]
    assert done.stdout == "Translated 2 images to zebra -> out/.\n"
    assert listing(work / "out") == ["a.png", "deep/er/b.png"]
    assert _colours(work / "out" / "a.png") == [(SHADE,) * 3]


def test_translate_pixels_without_attention_stay_bit_by_bit(
    translate: Translate, work: Path
) -> None:
    draw("plain", 0, 96)[0].save(work / "scene.png")
    done = translate("scene.png", "--maps", "--model", str(STRIPED_MODEL), "--to", "striped")
    assert done.stdout == "Translated 1 image to striped -> out/.\n", done.stderr
    before, after, attention = (
        np.asarray(Image.open(work / name))
        for name in ("scene.png", "out/scene.png", "out/scene.map.png")
    )
    unattended = attention == 0
    assert attention.dtype == np.uint8 and 0.2 < unattended.mean() < 1
    assert np.array_equal(before[unattended], after[unattended])
    assert not np.array_equal(before, after)


def test_translate_existing_results_are_skipped(translate: Translate, work: Path) -> None:
    for name in ("a", "b"):
        paint(work / "photos" / f"{name}.png")
    translate("photos")
    (work / "out" / "a.png").write_bytes(b"kept")
    (work / "out" / "b.png").unlink()
    done = translate("photos")
    assert (
        done.stdout
        == "Translated 1 image to zebra -> out/ (1 existed already: --overwrite replaces them).\n"
    )
    assert (work / "out" / "a.png").read_bytes() == b"kept"
    assert _colours(work / "out" / "b.png") == [(SHADE,) * 3]
    assert translate("photos", "--overwrite").exit_code == 0
    assert _colours(work / "out" / "a.png") == [(SHADE,) * 3]


def test_translate_missing_results_only_are_written(translate: Translate, work: Path) -> None:
    paint(work / "a.png", size=(40, 1200))
    translate("a.png")
    (work / "out" / "a.png").write_bytes(b"kept")
    done = translate("a.png", "--maps", "--panels")
    assert done.stdout == "Translated 1 image to zebra -> out/.\n"
    assert listing(work / "out") == ["a.map.png", "a.panel.png", "a.png"]
    assert (work / "out" / "a.png").read_bytes() == b"kept"
    with Image.open(work / "out" / "a.map.png") as attention:
        assert (attention.mode, attention.size) == ("L", (40, 1200))
        assert attention.getextrema() == (255, 255)
    with Image.open(work / "out" / "a.panel.png") as panel:
        # Three of 17 x 512 (40 * 512 / 1200 = 17.07), and two gaps of 8 (512 / 64).
        assert panel.size == (3 * 17 + 2 * 8, 512)
        assert panel.getpixel((8, 256)) == (100, 100, 100)
        assert panel.getpixel((panel.width - 8, 256)) == (SHADE,) * 3


def test_translate_result_is_written_after_its_extras(translate: Translate, work: Path) -> None:
    """If one of them fails, no translation exists that would look complete."""
    paint(work / "a.png")
    (work / "out" / "a.map.png").mkdir(parents=True)
    done = translate("a.png", "--maps", "--overwrite")
    assert done.exit_code == 1 and "a.png could not be saved" in done.stderr
    assert listing(work / "out") == []


def test_translate_results_below_inputs_are_not_inputs(translate: Translate, work: Path) -> None:
    paint(work / "photos" / "a.png")
    for paths in ("photos", "photos/**/*.png"):
        assert translate(paths, "--out", "photos/out").exit_code == 0
    assert listing(work / "photos") == ["a.png", "out/a.png"]


def test_translate_colliding_names_keep_suffixes(translate: Translate, work: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg", "C.jpg", "c.png"):
        paint(work / "photos" / name)
    translate("photos")
    assert listing(work / "out") == ["C.jpg.png", "a.jpg.png", "a.png.png", "b.png", "c.png.png"]


def test_translate_patterns_and_several_folders(translate: Translate, work: Path) -> None:
    for name in ("x/a.png", "x/b.jpg", "y/a.png", "[1].png"):
        paint(work / name)
    assert translate("?/*.png", "--out", "one").exit_code == 0
    assert listing(work / "one") == ["x/a.png", "y/a.png"]
    assert translate("x", "y", "[1].png", "--out", "two").exit_code == 0
    assert listing(work / "two") == ["[1].png", "x/a.png", "x/b.png", "y/a.png"]


@pytest.mark.parametrize("batch", ["1", "3"])
def test_translate_bad_file_does_not_stop_others(
    translate: Translate, work: Path, batch: str
) -> None:
    for number in range(4):
        paint(work / "photos" / f"{number}.png")
    paint(work / "photos" / "small.png", size=(15, 30))
    whole = (work / "photos" / "1.png").read_bytes()
    (work / "photos" / "1.png").write_bytes(whole[: len(whole) // 2])
    for kind in ("jpg", "webp"):
        odd = work / "photos" / f"exif-{kind}.{kind}"
        Image.new("RGB", (20, 16)).save(odd, exif=b"Exif\0\0nonsense")
    done = translate("photos", "--batch-size", batch, "--point", "3,15")
    assert done.exit_code == 1 and done.exception.__class__ is SystemExit
    lines = done.stderr.splitlines()
    assert sorted(line for line in lines if "EXIF" in line) == [
        f"photos/exif-{kind}.{kind} has damaged EXIF data, which are left out."
        for kind in ("jpg", "webp")
    ]
    warnings = [line for line in lines if "EXIF" not in line]
    assert len(warnings) == 2
    assert "warning: photos/1.png is damaged" in done.stderr
    assert all(line.startswith("warning: photos/") for line in warnings)
    assert re.search(r"photos/small\.png: .*15 x 30.*too small", done.stderr)
    assert done.stdout == "Translated 5 images to zebra -> out/ (2 failed).\n"
    assert listing(work / "out") == ["0.png", "2.png", "3.png", "exif-jpg.png", "exif-webp.png"]


def test_translate_point_outside_one_image_fails_that_one(translate: Translate, work: Path) -> None:
    paint(work / "photos" / "a.png", size=(32, 32))
    paint(work / "photos" / "b.png", size=(16, 16))
    done = translate("photos", "--point", "20,20", "--batch-size", "2")
    assert done.stderr == (
        "warning: photos/b.png: (20, 20) is outside an image of 16 x 16 pixels.\n"
    )
    assert (done.exit_code, listing(work / "out")) == (1, ["a.png"])


def test_translate_edit_options_apply(translate: Translate, work: Path) -> None:
    paint(work / "a.png", size=(20, 16))
    translate("a.png", "--region", "0,0,7,16", "--strength", "0.5")
    result = np.asarray(Image.open(work / "out" / "a.png"))
    assert (result[:, :7] == 150).all() and (result[:, 7:] == 100).all()
    translate("a.png", "--invert", "--out", "inverted")
    assert _colours(work / "inverted" / "a.png") == [(100, 100, 100)]


def test_translate_keeps_profile_and_exif_and_applies_orientation(
    translate: Translate, work: Path
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[MAKE] = 6, "Maker"  # 6: rotated by 90 degrees clockwise
    image = Image.new("RGB", (30, 20), "white")
    image.paste("black", (0, 0, 10, 20))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.save(work / "a.png", exif=exif, icc_profile=profile)
    for kind in ("png", "jpeg", "webp", "tiff"):
        done = translate("a.png", "--format", kind, "--to", "horse")
        assert done.exit_code == 0, done.stderr
        with Image.open(work / "out" / f"a.{kind}") as result:
            assert result.size == (20, 30) and result.info["icc_profile"] == profile
            assert result.getexif()[MAKE] == "Maker" and ORIENTATION not in result.getexif()
            assert result.getpixel((10, 3)) == (0, 0, 0)
            assert result.getpixel((10, 25)) == (255, 255, 255)


def test_translate_upright_orientation_tag_is_removed(translate: Translate, work: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 1
    Image.new("RGB", (20, 16)).save(work / "a.jpg", exif=exif)
    translate("a.jpg")
    with Image.open(work / "out" / "a.png") as result:
        assert not dict(result.getexif())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16", "CMYK", "F", "I"])
def test_translate_every_mode_has_lossless_format(
    translate: Translate, work: Path, mode: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, 20 * 16 * 4, dtype=np.uint8)
    if mode == "F":
        image = Image.fromarray(pixels[:320].reshape(16, 20).astype(np.float32) / 255)
    else:
        image = Image.frombytes(mode, (20, 16), pixels.tobytes()[: _bytes(mode)])
    image.save(work / "a.tif")
    translate("a.tif", "--to", "horse")
    (result,) = listing(work / "out")
    assert result == ("a.tiff" if mode in ("CMYK", "F", "I") else "a.png")
    with Image.open(work / "out" / result) as kept:
        assert kept.mode == mode and kept.tobytes() == image.tobytes()
    assert "1 existed already" in translate("a.tif", "--to", "horse").stdout


def _bytes(mode: str) -> int:
    return len(Image.new(mode, (20, 16)).tobytes())


@pytest.mark.parametrize(
    ("kind", "mode", "kept"),
    [
        ("jpeg", "RGBA", "RGB"),
        ("jpeg", "CMYK", "CMYK"),
        ("webp", "LA", "RGBA"),
        ("webp", "L", "RGB"),
    ],
)
def test_translate_format_converts_mode(
    translate: Translate, work: Path, kind: str, mode: str, kept: str
) -> None:
    image = Image.new(mode, (20, 16), 0 if mode == "L" else (128,) * len(mode))
    image.info["icc_profile"] = b"of a grey"
    image.save(work / "a.tif")
    assert translate("a.tif", "--format", kind, "--to", "horse").exit_code == 0
    with Image.open(work / "out" / f"a.{kind}") as result:
        assert result.mode == kept
        # A grey profile would be invalid for the RGB that a grey became.
        assert ("icc_profile" in result.info) == (mode in ("RGBA", "CMYK"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.jpg"], r"nowhere\.jpg does not exist"),
        (["empty"], "No image or video .* empty"),
        (["*.gif"], r"No image or video .* \*\.gif"),
        (["a.png", "--to", "zebbra"], "--to is 'zebbra'.* zebra .* horse"),
        (["a.png", "--threshold", "1.5"], r"threshold is 1\.5.* 0 and 1"),
        (["a.png", "--feather", "-1"], r"feather is -1\.0.* 0 and 500"),
        (["a.png", "--smoothing", "1"], r"smoothing is 1\.0.* less than 1"),
        (["a.png", "--point", "3;4"], "--point is '3;4'.* 2 numbers"),
        (["a.png", "--region", "9,0,3,4"], r"region is \(9\.0, 0\.0, 3\.0, 4\.0\).*left, top"),
        (["a.png", "--device", "abacus"], "device abacus cannot be used"),
        (["a.png", "--model", "empty"], r"empty has no config\.json"),
        (["a.png", "--model", "no/where"], "no/where is neither .* cache"),
        (["a.png", "--out", "."], r"a\.png would overwrite the input a\.png.* --out"),
        (["b.jpg", "a.png", "--out", "linked"], r"linked/a\.png would overwrite the input a\.png"),
        (["folder", "--out", "folder"], "inputs in folder.* --out"),
        (["a.png", "--out", "a.png"], r"a\.png is a file"),
        (["a.png", "folder/a.png"], r"a\.png and folder/a\.png .* same result, out/a"),
        (["clip.mp4"], r"PyAV.* pip install 'agit-hub\[video\]'"),
    ],
)
def test_translate_user_error_exits_with_2_and_writes_nothing(
    translate: Translate,
    work: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    for name in ("a.png", "b.jpg", "folder/a.png"):
        paint(work / name)
    (work / "empty").mkdir()
    (work / "clip.mp4").write_bytes(b"clip")
    (work / "linked").symlink_to(work)
    before = {name: (work / name).read_bytes() for name in listing(work)}
    done = translate(*arguments)
    assert done.exit_code == 2 and done.stdout == ""
    assert re.match(f"error: .*{message}", done.stderr) and done.stderr.count("\n") == 1
    assert {name: (work / name).read_bytes() for name in listing(work)} == before


@pytest.mark.slow
def test_translate_process_exit_codes(model: Path, work: Path) -> None:
    paint(work / "a.png")
    settings = ["--model", str(model), "--to", "zebra", "--out", "out"]
    for paths, code in ((["a.png"], 0), (["none.png"], 2)):
        done = subprocess.run(
            [*AGIT, "translate", *paths, *settings], capture_output=True, text=True, check=False
        )
        assert done.returncode == code and "Traceback" not in done.stderr
    assert listing(work / "out") == ["a.png"]


def test_translate_overwrite_replaces_atomically(translate: Translate, work: Path) -> None:
    """An open file of the old result stays readable."""
    paint(work / "a.png")
    assert translate("a.png").exit_code == 0
    result = work / "out" / "a.png"
    before = result.read_bytes()
    with result.open("rb") as held:
        assert translate("a.png", "--overwrite", "--strength", "0").exit_code == 0
        assert held.read() == before
    assert result.read_bytes() != before


def test_translate_interrupted_leaves_complete_files(work: Path) -> None:
    image = draw("plain", 0, 256)[0]
    (work / "photos").mkdir()
    image.save(work / "photos" / "0.png")
    for number in range(1, 300):
        shutil.copy(work / "photos" / "0.png", work / "photos" / f"{number}.png")
    # It is second, so its warning means that the first is done.
    (work / "photos" / "00.png").write_text("not an image")
    settings = ["--model", str(STRIPED_MODEL), "--to", "striped", "--out", "out"]
    process = subprocess.Popen(
        [*AGIT, "translate", "photos", *settings],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells start background jobs with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("warning: photos/00.png is not an image")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("Interrupted: ") and err.count("\n") == 1
    names = listing(work / "out")
    assert 0 < len(names) < 300 and not [name for name in names if "unfinished" in name]
    for name in names:
        with Image.open(work / "out" / name) as result:
            result.load()


def test_translate_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from agit_hub.cli import app; "
        "done = CliRunner().invoke(app, ['translate', '--help']); print(done.stdout); "
        "print(*sorted({'torch', 'numpy', 'PIL', 'av', 'scipy', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "bit by bit" in " ".join(done.stdout.split())
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("suffix", ["png", "jpeg", "tiff"])
def test_translate_keeps_resolution(translate: Translate, work: Path, suffix: str) -> None:
    Image.new("RGB", (20, 16)).save(work / "a.png", dpi=(300, 150))
    translate("a.png", "--format", suffix)
    with Image.open(work / "out" / f"a.{suffix}") as result:
        assert tuple(map(round, result.info["dpi"])) == (300, 150)


@pytest.mark.parametrize("dpi", [(0, 0), (1e9, 1), (-3, 72), (float("nan"), 1), "72", (72,)])
def test_save_image_ignores_impossible_resolutions(tmp_path: Path, dpi: object) -> None:
    for suffix in ("png", "jpeg", "tiff", "webp"):
        image = Image.new("RGB", (20, 16))
        image.info["dpi"] = dpi
        save_image(image, tmp_path / f"a.{suffix}")


def test_translate_results_of_one_name_are_refused(translate: Translate, work: Path) -> None:
    """The map of `a.png` and the translation of `a.map.png` would be one file."""
    for name in ("a.png", "a.map.png"):
        paint(work / "in" / name, shade=100, size=(16, 16))
    done = translate("in", "--maps")
    assert done.exit_code == 2
    for part in ("a.map.png would be a result of both", "in/a.png", "different folders"):
        assert part in done.stderr
    assert not (work / "out").exists()
    assert translate("in").exit_code == 0


def test_translate_colour_of_16_bits_is_said_to_be_read_with_8(
    translate: Translate, work: Path
) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)  # RGB of 16 bits
    rows = b"".join(b"\0" + bytes(16 * 6) for _ in range(16))
    (work / "wide.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    done = translate("wide.png")
    assert done.exit_code == 0
    assert "wide.png has 16 bits in each of its channels: the upper 8 are read." in done.stderr
