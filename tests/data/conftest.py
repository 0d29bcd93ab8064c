"""Compressed tars are unpacked into a cache of the test's own."""

from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import cached_assets_path

from agit_hub.data.domains import archives


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = tmp_path_factory.getbasetemp() / "assets"
    monkeypatch.setattr(
        archives, "cached_assets_path", partial(cached_assets_path, assets_dir=folder)
    )
