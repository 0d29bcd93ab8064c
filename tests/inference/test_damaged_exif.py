"""Damaged EXIF data fail no file, and no folder."""

from pathlib import Path

import pytest
from PIL import ExifTags, Image

from agit_hub.data.images import open_image
from agit_hub.inference.batch import BatchTranslator, TranslateOptions
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.image_io import save_image
from agit_hub.inference.inputs import plan_jobs
from agit_hub.inference.pipeline import AGITPipeline
from tests.conftest import MakeModel
from tests.damaged_exif import DAMAGED, write_damaged


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_translate_damaged_exif_is_translated_with_the_others(
    suffix: str, make_model: MakeModel, tmp_path: Path
) -> None:
    for number, kind in enumerate(DAMAGED):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_damaged(tmp_path / "in" / f"{number:02d}{suffix}", kind)
    Image.new("RGB", (32, 32)).save(tmp_path / "in" / "good.png")
    options = TranslateOptions(to="zebra", edits=AttentionEdits(), batch_size=3)
    jobs = plan_jobs([str(tmp_path / "in")], tmp_path / "out")
    results = list(BatchTranslator(AGITPipeline(make_model()), options).run(jobs))
    assert len(results) == len(DAMAGED) + 1
    assert {result.status for result in results} == {"done"}, results


def test_open_image_of_damaged_exif_keeps_the_orientation(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    write_damaged(path, "good orientation")
    found = open_image(path)
    assert found.getexif().get(ExifTags.Base.Orientation) == 6
    save_image(found, tmp_path / "b.png")


@pytest.mark.parametrize("suffix", [".png", ".jpeg", ".webp", ".tiff"])
def test_save_image_location_is_kept_only_if_asked_for(suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Camera"
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (52.0, 31.0, 12.0)}
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: b"secret", ExifTags.Base.LensModel: "50"}
    image = Image.new("RGB", (20, 20))
    image.info["exif"] = exif.tobytes()
    for asked in (False, True):
        save_image(image, tmp_path / f"a{suffix}", keep_location=asked)
        with Image.open(tmp_path / f"a{suffix}") as saved:
            found = saved.getexif()
            assert bool(found.get_ifd(ExifTags.IFD.GPSInfo)) is asked
            inner = found.get_ifd(ExifTags.IFD.Exif)
            assert (ExifTags.Base.MakerNote in inner) is asked and inner[ExifTags.Base.LensModel]
            assert found[ExifTags.Base.Make] == "Camera"
    assert image.getexif().get_ifd(ExifTags.IFD.GPSInfo)  # the image itself is untouched
