"""Checkpoints and models on disk: written atomically, so that the newest one is never damaged.

A checkpoint is a folder `step-00001000` with `state.pt` (shared by all ranks) and `rank-0.pt`, ... (state
of each rank). It is written under another name and renamed when complete. Everything is loaded with
`weights_only=True`, so no code runs on loading.
"""

import io
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from agit_hub.atomic import UNFINISHED, sync_folder, unfinished, write_bytes
from agit_hub.errors import ConfigError, SaveError
from agit_hub.models.agit import AGITModel
from agit_hub.runs import checkpoint_path, list_checkpoints


def pack(state: dict[str, Any]) -> bytes:
    """Serialise a state dictionary."""
    # Not directly to a file: torch.save replaces "disk full" by an unrelated error.
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def unpack(data: bytes) -> dict[str, Any]:
    """Deserialise a state dictionary, on the CPU."""
    state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return state


def read_state(path: Path) -> bytes:
    """Read a serialised state, and check that it can be loaded.

    Raises:
        ConfigError: If the file is missing or damaged.
    """
    try:
        data = path.read_bytes()
        unpack(data)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ConfigError(
            f"The checkpoint file {path} cannot be read: delete its folder to resume from the previous "
            "checkpoint."
        ) from error
    return data


def read_checkpoint(path: Path, processes: int) -> tuple[bytes, list[bytes]]:
    """Read the serialised states of a checkpoint: the shared one, and that of each rank.

    Raises:
        ConfigError: If it is damaged, or was saved by another number of processes.
    """
    shared = read_state(path / "state.pt")
    saved = unpack(shared)["processes"]
    if saved != processes:
        raise ConfigError(
            f"{path} was saved by {saved} process(es) and this run has {processes}: resume with "
            f"--num_processes {saved}."
        )
    return shared, [read_state(path / f"rank-{rank}.pt") for rank in range(processes)]


def write_checkpoint(folder: Path, step: int, shared: bytes, ranks: Sequence[bytes]) -> None:
    """Write a checkpoint of the serialised states: the shared one, and that of each rank.

    Raises:
        SaveError: If the disk is full or the files cannot be written; earlier checkpoints are untouched.
    """
    path = checkpoint_path(folder, step)
    draft = unfinished(path)
    try:
        for rank, data in enumerate(ranks):
            write_bytes(draft / f"rank-{rank}.pt", data)
        write_bytes(draft / "state.pt", shared)
        sync_folder(draft)
        if path.exists():  # of a run that had continued from an older checkpoint
            path.replace(unfinished(path.with_name(f"{path.name}.replaced")))
        draft.replace(path)
    except OSError:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    sync_folder(folder)


def rotate(folder: Path, limit: int) -> None:
    """Delete all but the newest `limit` checkpoints, and the remains of an interrupted save."""
    for path in list_checkpoints(folder)[:-limit]:
        shutil.rmtree(path)
    for path in folder.glob(f"step-*{UNFINISHED}"):
        shutil.rmtree(path)


def save_model(model: AGITModel, folder: Path) -> None:
    """Save a model, replacing the files of an earlier one atomically.

    Raises:
        SaveError: If the disk is full or the files cannot be written; the earlier model is then
            untouched.
    """
    draft = unfinished(folder)
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
