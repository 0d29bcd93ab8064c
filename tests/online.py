"""The real client of this process, sent to a Hub over loopback."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import tenacity
from huggingface_hub import HfFileSystem, constants, file_download
from huggingface_hub.utils import _cache_assets, _http


class Hurried:
    """The clock, for a client that waits a second or more between its attempts."""

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        """At once; the server, which has threads of this process, goes first."""
        os.sched_yield()


def connect(patch: pytest.MonkeyPatch, url: str, home: Path, *, hurried: bool = True) -> None:
    """The client of this process takes a hub for the Hub, with a cache of its own in `home`."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_CACHE": str(home / "cache"),
        "HF_TOKEN_PATH": str(home / "token"),
        "HF_HUB_DOWNLOAD_TIMEOUT": 1,
        "HF_HUB_ETAG_TIMEOUT": 1,
    }.items():
        patch.setattr(constants, name, value)
    patch.setattr(_cache_assets, "HF_ASSETS_CACHE", str(home / "assets"))
    patch.delenv("HF_TOKEN", raising=False)
    HfFileSystem.clear_instance_cache()
    for module in (file_download, _http, tenacity.nap) if hurried else ():
        patch.setattr(module, "time", Hurried())
