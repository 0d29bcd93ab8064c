"""Checkpoints: written whole or not at all, rotated, found again.

A checkpoint is a folder `step-00001000` with `state.pt` (what all ranks share) and `rank-0.pt`, ... (what
each has of its own). It is written under another name and renamed when complete, so the newest one on
disk is never broken. Everything is loadable with `weights_only=True`: no code runs on loading.
"""

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError

from agit_hub.modeling import AGITModel

_PREFIX = "step-"
_UNFINISHED = ".unfinished"


class SaveError(OSError):
    """Something could not be written; its message says what, why, and what is still safe."""


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and path.name.startswith(_PREFIX) and path.suffix != _UNFINISHED
    )


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step goes."""
    return folder / f"{_PREFIX}{step:08d}"


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """The folder in which a checkpoint is written until `publish` gives it its name.

    If writing fails the draft is removed, to give its room back.
    """
    folder = _unfinished(path)
    try:
        yield folder
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state dictionary to disk and make sure that it has arrived there.

    Raises:
        SaveError: If the disk is full or refuses.
    """
    # Through memory, for torch.save into a file turns "disk full" into an unrelated error.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SaveError(
            f"{path.name} could not be written to {path.parent}: {error.strerror}"
        ) from error


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote, onto the CPU."""
    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def publish(path: Path) -> None:
    """Give a completely written checkpoint its name."""
    _unfinished(path).replace(path)
    _sync_folder(path.parent)


def rotate(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what an interrupted save left behind."""
    for path in checkpoints(folder)[:-keep]:
        shutil.rmtree(path)
    for path in folder.glob(f"*{_UNFINISHED}"):
        shutil.rmtree(path)


def save_model(model: AGITModel, folder: Path) -> None:
    """Write a model as it would be pushed, replacing an earlier one file by file, each at once.

    Raises:
        SaveError: If the disk is full or refuses; the earlier model is then untouched.
    """
    draft = _unfinished(folder)
    try:
        shutil.rmtree(draft, ignore_errors=True)
        model.save_pretrained(draft)
        folder.mkdir(exist_ok=True)
        for file in draft.iterdir():
            file.replace(folder / file.name)
    except (SafetensorError, OSError) as error:
        raise SaveError(f"The model could not be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG at once.

    Raises:
        SaveError: If the disk is full or refuses.
    """
    draft = path.with_name(path.name + _UNFINISHED)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(draft, format="PNG")
        draft.replace(path)
    except OSError as error:
        raise SaveError(f"The picture {path} could not be written: {error.strerror}") from error


def _unfinished(path: Path) -> Path:
    return path.with_name(path.name + _UNFINISHED)


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
