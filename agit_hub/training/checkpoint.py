"""Checkpoints: written whole or not at all, rotated, found again.

A checkpoint is a folder `step-00001000` with `state.pt` (what all ranks share) and `rank-0.pt`, ...
(what each has of its own). It is written under another name and renamed when complete, so the newest
one on disk is never broken. Everything loads with `weights_only=True`: no code runs on loading.
"""

import io
import pickle
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError

from agit_hub.atomic import UNFINISHED, sync_folder, unfinished, write_bytes
from agit_hub.errors import ConfigError, SaveError
from agit_hub.models.agit import AGITModel

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
def _draft(path: Path) -> Iterator[Path]:
    """The folder in which a checkpoint is written; removed if that fails, to give its room back."""
    folder = unfinished(path)
    try:
        yield folder
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def pack(state: dict[str, Any]) -> bytes:
    """A state dictionary as the bytes of a file."""
    # Not straight into a file, for torch.save turns "disk full" into an unrelated error.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, Any]:
    """What `pack` packed, on the CPU. No code in it is run."""
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


def read_state(path: Path) -> bytes:
    """Read a packed state, whole and undamaged.

    Raises:
        ConfigError: If the file is missing or damaged, naming it.
    """
    try:
        data = path.read_bytes()
        unpack(data)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"The checkpoint file {path} cannot be read: remove its folder to go on from the one "
            "before it."
        ) from error
    return data


def write_checkpoint(folder: Path, step: int, shared: bytes, ranks: Sequence[bytes]) -> None:
    """Write all of a checkpoint and give it its name when it is on the disk.

    Args:
        folder: Of the checkpoints.
        step: Of the run.
        shared: What every process has alike, packed.
        ranks: What each process has of its own, packed.

    Raises:
        SaveError: If the disk is full or refuses; earlier checkpoints are untouched.
    """
    path = checkpoint_path(folder, step)
    with _draft(path) as draft:
        for rank, data in enumerate(ranks):
            write_bytes(draft / f"rank-{rank}.pt", data)
        write_bytes(draft / "state.pt", shared)
        draft.replace(path)
    sync_folder(folder)


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
    write_bytes(path, buffer.getbuffer())
