"""`agit translate --mask` of videos: one mask for all frames."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import SHADE, Translate, listing, model, translate, work
from tests.inference.test_video import MakeVideo, make_video
from tests.space.videos import decoded

__all__ = ["make_video", "model", "translate", "work"]  # fixtures


def _right_half(path: Path, width: int, height: int) -> Path:
    """Save a mask that is white on the right."""
    values = np.zeros((height, width), np.uint8)
    values[:, width // 2 :] = 255
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(values).save(path)
    return path


@pytest.mark.parametrize("use", ["region", "attention"])
@pytest.mark.parametrize("rotation", [0, 90])
def test_translate_video_mask_file_limits_every_frame(
    translate: Translate, make_video: MakeVideo, work: Path, use: str, rotation: int
) -> None:
    """It is a mask of upright frames, at any size."""
    clip = make_video(times=(0, 1, 2, 6), rotation=rotation)
    upright = (16, 32) if rotation else (32, 16)
    _right_half(work / "mask.png", *upright)
    done = translate(
        *("clip.mp4", "--mask", "mask.png", "--mask-as", use, "--smoothing", "0.9"),
        *("--maps", "--feather", "4"),
    )
    assert done.exit_code == 0, done.output
    given, times, _ = decoded(clip)
    made, same_times, _ = decoded(work / "out" / "clip.mp4")
    maps, _, _ = decoded(work / "out" / "clip.map.mp4")
    assert len(made) == len(maps) == 4 and same_times == times
    for before, after, attention in zip(given, made, maps, strict=True):
        # The edge of the mask is left out: a codec blurs it.
        kept = np.s_[:, : 2 * after.shape[1] // 5]
        before = np.rot90(before, rotation // 90)
        assert np.abs(after[kept].astype(int) - before[kept]).mean() < 4
        assert attention[kept].max() < 20 and attention[:, -4:].min() > 235
        assert np.abs(after[:, -4:].astype(int) - SHADE).mean() < 4


def test_translate_video_mask_of_another_shape_fails_its_video_alone(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video("a.mp4", size=(64, 32))
    make_video("b.mp4", size=(32, 64))
    _right_half(work / "mask.png", 64, 32)
    done = translate("a.mp4", "b.mp4", "--mask", "mask.png")
    assert done.exit_code == 1 and listing(work / "out") == ["a.mp4"]
    assert "b.mp4: The mask is 64 x 32 pixels and its image 32 x 64" in done.stderr
    assert "Traceback" not in done.output


def test_translate_video_with_a_folder_of_masks_is_refused_before_the_work(
    translate: Translate, make_video: MakeVideo, work: Path
) -> None:
    make_video()
    _right_half(work / "masks" / "clip.png", 64, 32)
    done = translate("clip.mp4", "--mask", "masks")
    assert done.exit_code == 2 and not (work / "out").exists()
    assert (
        "--mask masks is a folder and clip.mp4 a video, which takes one mask for all its frames: "
        "translate it separately, with --mask FILE." in " ".join(done.stderr.split())
    )
