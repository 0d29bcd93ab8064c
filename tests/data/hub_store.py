"""A dataset on a local Hub, for the tests of stores."""

from pathlib import Path

import pytest

from agit_hub.data.store import HubStore

REPO = "user/images"
NAME = "the dataset user/images"
# Seconds: longer than the client's own first retry, after one second.
TIMEOUT = 20.0
MEGABYTE = 2**20


def open_store(revision: str | None = None, hub_timeout: float = TIMEOUT) -> HubStore:
    return HubStore(REPO, revision, hub_timeout)


def log_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "agit_hub.data"]


def cached(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "cache").rglob("snapshots/*/*"))
