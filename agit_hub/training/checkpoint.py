"""Checkpoints: written whole or not at all, rotated, found again.

A checkpoint is a folder `step-00001000` with `state.pt` (what all ranks share) and `rank-0.pt`, ...
(what each has of its own). It is written under another name and renamed when complete, so the newest
one on disk is never broken. Everything loads with `weights_only=True`: no code runs on loading.
"""

import io
import pickle
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError

from agit_hub.config import ConfigError
from agit_hub.modeling import AGITModel
from agit_hub.training.files import UNFINISHED, SaveError, sync_folder, unfinished, write_whole

_NAME = re.compile(r"step-\d{8,}")


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step goes."""
    return folder / f"step-{step:08d}"


@contextmanager
def draft(path: Path) -> Iterator[Path]:
    """The folder in which a checkpoint is written until `publish` gives it its name.

    If writing fails the draft is removed, to give its room back.
    """
    folder = unfinished(path)
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
    write_whole(path, buffer.getbuffer())


def read_state(path: Path) -> dict[str, Any]:
    """Read what `write_state` wrote, onto the CPU.

    Raises:
        ConfigError: If the file is missing or damaged, naming it.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"The checkpoint file {path} cannot be read: remove its folder to go on from the one "
            "before it."
        ) from error
    return state


def publish(path: Path) -> None:
    """Give a completely written checkpoint its name."""
    unfinished(path).replace(path)
    sync_folder(path.parent)


def rotate(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, and what an interrupted save left behind."""
    for path in checkpoints(folder)[:-keep]:
        shutil.rmtree(path)
    for path in folder.glob(f"step-*{UNFINISHED}"):
        shutil.rmtree(path)


def save_model(model: AGITModel, folder: Path) -> None:
    """Write a model as it would be pushed, replacing an earlier one file by file, each at once.

    Raises:
        SaveError: If the disk is full or refuses; the earlier model is then untouched.
    """
    new = unfinished(folder)
    try:
        shutil.rmtree(new, ignore_errors=True)
        model.save_pretrained(new)
        folder.mkdir(exist_ok=True)
        for file in new.iterdir():
            file.replace(folder / file.name)
    except (SafetensorError, OSError) as error:
        raise SaveError(f"The model could not be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(new, ignore_errors=True)


def save_picture(picture: Image.Image, path: Path) -> None:
    """Write a PNG at once.

    Raises:
        SaveError: If the disk is full or refuses.
    """
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    write_whole(path, buffer.getbuffer())
