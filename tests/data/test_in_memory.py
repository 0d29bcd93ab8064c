"""InMemoryDomain and fit_in_memory."""

from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from agit_hub.data.dataset import UnpairedDataset
from agit_hub.data.domains.base import Domain
from agit_hub.data.domains.files import FilesDomain
from agit_hub.data.domains.in_memory import InMemoryDomain, fit_in_memory
from agit_hub.data.inventory import Inventory
from agit_hub.data.store import FolderStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven noise images of two sizes; the fourth is truncated."""
    random = np.random.default_rng(0)
    for number in range(7):
        pixels = random.integers(0, 256, (20, 30 + number % 2, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    whole = (tmp_path / "3.png").read_bytes()
    (tmp_path / "3.png").write_bytes(whole[: len(whole) // 2])
    return tmp_path


def _domain(folder: Path) -> Domain:
    store = FolderStore(folder)
    return FilesDomain(store, Inventory(store).items, shorter_side=16)


def test_in_memory_domain_samples_equal_those_of_the_files(folder: Path) -> None:
    from_files = _domain(folder)
    in_memory = InMemoryDomain(from_files)
    samples = [UnpairedDataset(d, d, 16, zoom=1.5) for d in (from_files, in_memory)]
    expected = [samples[0][position] for position in range(20)]
    for file in folder.iterdir():
        file.unlink()
    for position, sample in enumerate(expected):
        found = samples[1][position]
        assert torch.equal(found.source, sample.source)
        assert torch.equal(found.target, sample.target)
        assert found.unreadable == sample.unreadable
    assert any(sample.unreadable for sample in expected)


def test_in_memory_domain_megabytes_counts_decoded_bytes(folder: Path) -> None:
    # Files 0, 2, 4, 6 are 30 pixels wide, 1 and 5 are 31; file 3 is damaged.
    assert InMemoryDomain(_domain(folder)).megabytes == 3 * 20 * (4 * 30 + 2 * 31) / 1e6


@pytest.mark.parametrize(("free", "fits"), [(4.1, True), (3.9, False)])
def test_fit_in_memory_allows_a_quarter_of_free_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch, free: float, fits: bool
) -> None:
    # All seven are sampled; the damaged one counts as the mean of the others.
    decoded = 7 * 3 * 20 * (4 * 30 + 2 * 31) / 6
    memory = psutil.virtual_memory()._replace(available=int(free * decoded))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert fit_in_memory([_domain(folder)]) is fits


def test_fit_in_memory_uncounted_domain_does_not_fit(folder: Path) -> None:
    class Uncounted(InMemoryDomain):
        length = None

    uncounted = Uncounted.__new__(Uncounted)
    assert not fit_in_memory([_domain(folder), uncounted])
