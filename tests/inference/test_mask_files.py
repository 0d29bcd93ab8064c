"""Masks of files to translate: which, and what is refused before the work."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agit_hub.errors import InputPathError, MaskError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.inputs import Job
from agit_hub.inference.mask_files import JobMasks, find_masks, without_masks


def _mask(path: Path, *values: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array([values], np.uint8)).save(path)
    return path


def _jobs(*names: str) -> list[Job]:
    return [Job(Path(name), Path(name)) for name in names]


def test_find_masks_of_a_file_is_that_of_all_jobs(tmp_path: Path) -> None:
    mask = _mask(tmp_path / "m.png", 0, 255)
    assert find_masks(mask, _jobs("a.jpg", "clip.mp4")) == {
        Path("a.jpg"): mask,
        Path("clip.mp4"): mask,
    }


def test_find_masks_of_a_folder_are_those_of_the_same_names(tmp_path: Path) -> None:
    mask = _mask(tmp_path / "deep" / "a.png", 0, 255)
    assert find_masks(tmp_path, _jobs("photos/deep/a.jpg")) == {Path("photos/deep/a.jpg"): mask}


def test_find_masks_refuses_what_would_fail_later(tmp_path: Path) -> None:
    _mask(tmp_path / "a.png", 255)
    (tmp_path / "text.png").write_text("none")
    with pytest.raises(InputPathError, match=r"nowhere does not exist"):
        find_masks(tmp_path / "nowhere", _jobs("a.jpg"))
    with pytest.raises(MaskError, match=r"text\.png cannot be read"):
        find_masks(tmp_path / "text.png", _jobs("a.jpg"))
    with pytest.raises(InputPathError, match=r"no mask for 2 of 3 images \(b\.jpg, c\.jpg\)"):
        find_masks(tmp_path, _jobs("a.jpg", "b.jpg", "c.jpg"))
    with pytest.raises(InputPathError, match=r"a folder and clip\.mp4 a video"):
        find_masks(tmp_path, _jobs("a.jpg", "clip.mp4"))


def test_without_masks_leaves_out_their_folder(tmp_path: Path) -> None:
    photo, mask = tmp_path / "a.jpg", tmp_path / "masks" / "a.png"
    jobs = [Job(path, path) for path in (photo, mask)]
    assert [job.source for job in without_masks(jobs, mask.parent)] == [photo]
    assert [job.source for job in without_masks(jobs, mask)] == [photo]
    with pytest.raises(InputPathError, match="All 2 images"):
        without_masks(jobs, tmp_path)


def test_edits_of_job_use_mask_as_region_or_attention(tmp_path: Path) -> None:
    job = Job(tmp_path / "a.jpg", tmp_path / "a")
    files = {job.source: _mask(tmp_path / "a.png", 0, 51, 255)}
    region = JobMasks(files).edits(job, AttentionEdits(feather=2))
    assert region.feather == 2 and region.attention is None
    np.testing.assert_allclose(region.mask, [[0, 0.2, 1]])
    own = JobMasks(files, "attention").edits(job, AttentionEdits())
    np.testing.assert_allclose(own.attention, [[0, 0.2, 1]])
    np.testing.assert_array_equal(own.mask, [[0, 1, 1]])
