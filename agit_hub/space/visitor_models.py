"""Models that visitors name: fetched without the host's credentials, judged first, in a bounded cache.

A cache of their own, because the Hub client falls back to cached files when the Hub refuses a request:
from the host's cache it would serve private models.
"""

import os
import shutil
from pathlib import Path
from threading import Lock

from huggingface_hub import cached_assets_path
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from agit_hub.config import AGITConfig
from agit_hub.errors import ModelLoadError, SpaceError
from agit_hub.models.agit import expected_shapes
from agit_hub.models.remote import HubOptions, fetch_file, fetch_model
from agit_hub.models.weights_header import Header, check_header, num_bytes
from agit_hub.space.limits import (
    MAX_CARD_BYTES,
    MAX_MODEL_MEGABYTES,
    MAX_MODEL_WORK,
    MAX_VISITOR_CACHE_MEGABYTES,
)


class VisitorModels:
    """Fetches public models."""

    def __init__(self) -> None:
        self._lock = Lock()

    def fetch(self, repo: str) -> Path:
        """Fetch a model, and return its folder.

        Raises:
            SpaceError: If it is not public, too large, or not a usable model.
            AgitError: If the Hub cannot be reached.
        """

        def judge(config: AGITConfig, header: Header) -> None:
            _check_work(repo, config)
            check_header(repo, header, expected_shapes(config))
            megabytes = num_bytes(header) / 1e6
            if megabytes > MAX_MODEL_MEGABYTES:
                raise SpaceError(
                    f"The weights of {repo} have {megabytes:.0f} MB; {MAX_MODEL_MEGABYTES} MB is the "
                    "limit here."
                )

        folder = self._folder()
        self._prune(folder, room=MAX_MODEL_MEGABYTES * 10**6)
        try:
            return fetch_model(repo, _public(folder), judge).folder
        except ModelLoadError as error:
            raise _refusal(repo, error) from error
        finally:
            self._touch(folder, repo)

    def card(self, repo: str) -> Path:
        """Fetch a model's card.

        Raises:
            SpaceError: If there is none.
            AgitError: If the Hub cannot be reached.
        """
        folder = self._folder()
        try:
            return fetch_file(repo, "README.md", _public(folder), MAX_CARD_BYTES)
        except ModelLoadError as error:
            raise _refusal(repo, error) from error
        finally:
            self._touch(folder, repo)

    def _folder(self) -> Path:
        return Path(cached_assets_path("agit-hub", namespace="visitors"))

    def _touch(self, folder: Path, repo: str) -> None:
        place = folder / f"models--{repo.replace('/', '--')}"
        if place.is_dir():
            os.utime(place)

    def _prune(self, folder: Path, room: int) -> None:
        """Delete the least recently used models until there is room for another of that many bytes."""
        with self._lock:
            repos = [place for place in folder.glob("models--*") if place.is_dir()]
            repos.sort(key=lambda place: place.stat().st_mtime, reverse=True)
            total = room
            for place in repos:
                blobs = (place / "blobs").glob("*")
                total += sum(blob.stat().st_size for blob in blobs if blob.is_file())
                if total > MAX_VISITOR_CACHE_MEGABYTES * 10**6:
                    shutil.rmtree(place, ignore_errors=True)


def _public(folder: Path) -> HubOptions:
    """Return the options of every download for a visitor: no token, and no cache of the host's."""
    return {"token": False, "cache_dir": folder}


def _check_work(repo: str, config: AGITConfig) -> None:
    width = max(config.channels, config.attention_channels)
    if width * config.image_size**2 > MAX_MODEL_WORK:
        raise SpaceError(
            f"{repo} is too large for this Space: {width} channels at {config.image_size} pixels."
        )


def _refusal(repo: str, error: ModelLoadError) -> SpaceError:
    cause = error.__cause__
    if isinstance(cause, LocalEntryNotFoundError):
        return SpaceError(f"{repo} could not be fetched: the Hub is unreachable.")
    if isinstance(cause, GatedRepoError | RepositoryNotFoundError):
        return SpaceError(f"{repo} is no public model on the Hub.")
    return SpaceError(str(error))
