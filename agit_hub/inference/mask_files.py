"""Masks of `agit translate`: one file for all images, or a folder with one for each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agit_hub.data.masks import match_masks, read_mask
from agit_hub.errors import InputPathError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.inputs import Job

MaskUse = Literal["region", "attention"]
# Images without a mask that an error names.
_NAMES = 3


@dataclass(frozen=True)
class JobMasks:
    """The masks of jobs, and how they are used."""

    files: Mapping[Path, Path]
    """The mask of each input."""
    use: MaskUse = "region"
    """`region`: attention is multiplied by the mask; `attention`: the mask is the attention."""

    def edits(self, job: Job, edits: AttentionEdits) -> AttentionEdits:
        """Add the mask of a job to edits.

        Raises:
            MaskError: If it cannot be read.
        """
        mask = read_mask(self.files[job.source])
        if self.use == "region":
            return replace(edits, mask=mask)
        # Nor does a feather reach beyond it.
        return replace(edits, attention=mask, mask=mask > 0)


def without_masks(jobs: Sequence[Job], mask: Path) -> list[Job]:
    """Return the jobs that are no masks themselves: the masks' folder may be among the photographs'.

    Raises:
        InputPathError: If there are none.
    """
    place = mask.resolve()
    kept = [
        job for job in jobs if place not in (path := job.source.resolve()).parents and path != place
    ]
    if not kept:
        raise InputPathError(
            f"All {len(jobs)} images to translate are in --mask {mask} too: name the masks' own file or "
            "folder."
        )
    return kept


def find_masks(mask: Path, jobs: Sequence[Job]) -> dict[Path, Path]:
    """Find the mask of each job.

    Args:
        mask: A file, the mask of all; or a folder with a mask for each, see `match_masks`.
        jobs: Images; or videos, whose frames all have the one mask of a file.

    Raises:
        InputPathError: If it does not exist, an image has no mask, or a video has a folder.
        MaskError: If the file cannot be read, or masks cannot be told apart.
    """
    if not mask.exists():
        raise InputPathError(f"--mask {mask} does not exist.")
    if not mask.is_dir():
        read_mask(mask)
        return {job.source: mask for job in jobs}
    if video := next((job.source for job in jobs if job.is_video), None):
        raise InputPathError(
            f"--mask {mask} is a folder and {video} a video, which takes one mask for all its frames: "
            "translate it separately, with --mask FILE."
        )
    found, missing = match_masks(mask, [job.source for job in jobs])
    if missing:
        names = ", ".join(map(str, missing[:_NAMES])) + ", ..." * (len(missing) > _NAMES)
        raise InputPathError(
            f"--mask {mask} has no mask for {len(missing)} of {len(jobs)} images ({names}): add them, "
            "black to keep an image and white to translate all of it, or name the other images alone."
        )
    return found
