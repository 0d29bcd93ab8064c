"""LayoutFinder: everything that lies there decides, and every file that is left out is counted."""

import tarfile
from pathlib import Path

import pytest
from PIL import Image

from agit_hub.data.config import DomainConfig
from agit_hub.data.load import LoadedDomain, Loading, load_domain
from agit_hub.errors import DataError
from tests.data.layouts import png, write_folder, write_parquet, write_tar, write_zip

SIX = [f"{number}.png" for number in range(6)]


def load(path: Path, **options: object) -> LoadedDomain:
    return load_domain(DomainConfig(str(path), **options), Loading(16, 0))  # type: ignore[arg-type]


def count_files(root: Path) -> int:
    return sum(not path.is_dir() for path in root.rglob("*"))


def _stray_tar(root: Path) -> None:
    write_tar(root / "backup.tar", **{f"{n}__png": png(n) for n in range(9)})


def _stray_webdataset(root: Path) -> None:
    write_tar(root / "backup.tar", a__png=png(), a__cls=b"0")


def _damaged_tar(root: Path) -> None:
    (root / "backup.tar.gz").write_bytes(b"cut off")


def _stray_zip(root: Path) -> None:
    write_zip(root / "backup.zip", *SIX)


def _stray_parquet(root: Path) -> None:
    write_parquet(root / "backup.parquet", image=[png()] * 3)


def _table_without_images(root: Path) -> None:
    write_parquet(root / "train.parquet", x=[1] * 9)


@pytest.mark.parametrize(
    ("stray", "sentence"),
    [
        (_stray_tar, "1 .tar file skipped: the images beside it are read (backup.tar)"),
        (_stray_webdataset, "1 .tar file skipped: the images beside it are read (backup.tar)"),
        (_damaged_tar, "1 .tar.gz file skipped: the images beside it are read (backup.tar.gz)"),
        (_stray_zip, "1 .zip file skipped: the images beside it are read (backup.zip)"),
        (_stray_parquet, "1 .parquet file skipped: the images beside it are read"),
        (_table_without_images, "1 table skipped: no column holds images (train.parquet)"),
    ],
)
def test_load_domain_stray_container_is_left_out_and_counted(
    stray: object, sentence: str, tmp_path: Path
) -> None:
    write_folder(tmp_path, *SIX)
    stray(tmp_path)  # type: ignore[operator]
    loaded = load(tmp_path)
    assert loaded.domain.length == 6
    assert any(sentence in note for note in loaded.notes)
    assert 6 + len(loaded.skipped) == count_files(tmp_path)


def test_load_domain_stray_image_beside_shards_is_left_out(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-00000-of-00001.parquet", image=[png()] * 3)
    write_folder(tmp_path, "assets/teaser.png")
    loaded = load(tmp_path)
    assert loaded.domain.length == 3
    assert "1 .png file skipped: the .parquet files are read (assets/teaser.png)" in loaded.notes[0]


def test_load_domain_zip_beside_its_unpacked_folders_is_left_out(tmp_path: Path) -> None:
    files = [f"{folder}/{number}.png" for folder in ("trainA", "trainB") for number in range(3)]
    write_folder(tmp_path, *files)
    write_zip(tmp_path / "dataset.zip", *files)
    loaded = load(tmp_path, data_dir="trainA")
    assert loaded.domain.length == 3
    write_folder(tmp_path / "b", "horse/1.png", "zebra/1.png")
    write_zip(tmp_path / "b" / "b.zip", "b/horse/1.png", "b/zebra/1.png")
    loaded = load(tmp_path / "b")
    assert loaded.domain.length == 2 and "b.zip" in loaded.notes[0]


@pytest.mark.parametrize("ending", [".zip", ".tar", ".tar.gz", ".tgz"])
def test_load_domain_path_of_an_archive_reads_it(ending: str, tmp_path: Path) -> None:
    write_folder(tmp_path / "set", "trainA/1.png", "trainA/2.png", "trainB/1.png", "testA/3.png")
    archive = tmp_path / f"photos{ending}"
    if ending == ".zip":
        write_zip(archive, "trainA/1.png", "trainA/2.png", "trainB/1.png", "testA/3.png")
    else:
        with tarfile.open(archive, "w:gz" if "gz" in ending else "w") as opened:
            opened.add(tmp_path / "set", arcname=".")
    loaded = load(archive, data_dir="trainA")
    assert loaded.domain.length == 2 and loaded.domain.image(0, 0).size == (4, 4)
    assert any("1 image outside" in n or "image" in n for n in loaded.notes)


def test_load_domain_path_of_another_file_raises(tmp_path: Path) -> None:
    write_folder(tmp_path, "a.png")
    with pytest.raises(DataError, match=r"a\.png is a file; expected a folder .*archive"):
        load(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a.txt", "1 .txt file skipped: not an image"),
        ("a.mp4", "1 .mp4 file skipped: a video"),
        ("a.CR2", "1 .cr2 file skipped: a camera's raw file"),
        ("a.rar", "1 .rar file skipped: unpack it"),
        ("a.dcm", "1 .dcm file skipped: a medical image"),
        ("noending", "1 file without an extension skipped: not an image"),
        (".DS_Store", "1 hidden file skipped"),
        (".git/deep/a.png", "1 hidden file skipped"),
    ],
)
def test_load_domain_other_files_are_counted_by_reason(
    name: str, reason: str, tmp_path: Path
) -> None:
    write_folder(tmp_path, "1.png", "2.png", "3.png", name)
    loaded = load(tmp_path)
    assert loaded.domain.length == 3 and reason in loaded.notes[0]
    assert 3 + len(loaded.skipped) == count_files(tmp_path)


def test_load_domain_plural_counts_are_one_line(tmp_path: Path) -> None:
    write_folder(tmp_path, *SIX, *(f"{n}.xyz" for n in range(5)))
    (line,) = load(tmp_path).notes
    assert line.endswith("5 .xyz files skipped: not an image (0.xyz, 1.xyz, 2.xyz, ...)")


def test_load_domain_heic_is_read_where_the_extra_is_installed(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (32, 32), (200, 10, 10))
    pillow_heif.from_pillow(image).save(tmp_path / "a.HEIC")
    domain = load(tmp_path).domain
    red, _, _ = domain.image(0, 0).getpixel((5, 5))  # type: ignore[misc]
    assert domain.length == 1 and red > 180


def test_load_domain_splits_left_out_are_counted(tmp_path: Path) -> None:
    write_folder(tmp_path, *SIX, "test/a.png", "test/b.png")
    loaded = load(tmp_path)
    assert loaded.domain.length == 6 and "2 images in split test skipped" in loaded.notes[0]
    write_folder(tmp_path / "b", "loose.png", "train/a.png")
    loaded = load(tmp_path / "b")
    assert loaded.domain.length == 1 and "1 image in no split but train" in loaded.notes[0]


@pytest.mark.parametrize("name", ["train station", "test shots", "valley", "training wheels"])
def test_load_domain_folder_that_begins_like_a_split_is_none(name: str, tmp_path: Path) -> None:
    write_folder(tmp_path, "a.png", "b.png", "c.png", f"{name}/a.png", f"{name}/b.png")
    loaded = load(tmp_path)
    assert loaded.domain.length == 5 and loaded.notes == ()


def test_load_domain_animation_takes_the_first_frame_and_says_so(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (16, 16), color) for color in ("red", "blue"))
    for name in ("a.gif", "b.webp", "c.tiff"):
        red.save(tmp_path / name, save_all=True, append_images=[blue], lossless=True)
    red.save(tmp_path / "d.png")
    loaded = load(tmp_path)
    (note,) = loaded.notes
    assert "3 animated or multi-page files: the first frame of each is taken" in note
    for row in range(4):
        assert loaded.domain.image(0, row).getpixel((8, 8)) == (255, 0, 0) or row == 1
