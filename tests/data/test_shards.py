"""Images out of zips and shards: each the right one, whoever reads and in whatever order."""

import os
import pickle
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch.utils.data import DataLoader

from agit_hub.data.dataset import UnpairedDataset, collate
from agit_hub.data.domains import parquet
from agit_hub.data.domains.base import Domain
from tests.data.shards import (
    BLOCKS,
    SIZE,
    files_domain,
    kinds,
    number_of,
    numbers,
    parquet_domain,
    png,
    stream,
    ten_in_parquet,
    ten_in_zips,
    write_zip,
)


@kinds
def test_every_image_is_the_right_one_in_any_order(write: Any, tmp_path: Path) -> None:
    domain = write(tmp_path)
    assert domain.blocks == 3 and numbers(domain) == BLOCKS
    assert domain.length == 10
    assert [domain.block_length(block) for block in range(3)] == [3, 3, 4]
    assert len(domain.shards) == 3
    fresh = write(tmp_path)
    for block, row in ((2, 3), (0, 0), (1, 2), (2, 0), (0, 2), (1, 0)):
        fresh.prepare(block)
        assert number_of(fresh.image(block, row)) == BLOCKS[block][row]


@kinds
def test_a_pickled_domain_gives_the_same_images_and_carries_none(
    write: Any, tmp_path: Path
) -> None:
    domain = write(tmp_path)
    fresh = len(pickle.dumps(domain))
    assert numbers(domain) == BLOCKS
    used = pickle.dumps(domain)
    assert len(used) < fresh + 100  # a webdataset knows its lengths by now
    assert b"PNG" not in used and b"IDAT" not in used
    assert numbers(pickle.loads(used)) == BLOCKS
    assert numbers(domain) == BLOCKS


@kinds
def test_workers_give_the_same_images(write: Any, tmp_path: Path) -> None:
    domain = write(tmp_path)
    samples = UnpairedDataset(domain, domain, SIZE, seed=1)
    forked = stream(samples, 2)  # the files are not opened yet
    alone = stream(samples, 0)
    assert forked == alone
    assert stream(samples, 2) == alone  # the files were opened before the workers were forked
    sources = [samples[position].source for position in range(10)]
    assert sorted(int(source[0, 0, 0]) for source in sources) == list(range(10, 20))


def test_workers_that_share_nothing_give_the_same_images(tmp_path: Path) -> None:
    for folder in ("parquet", "zips"):
        (tmp_path / folder).mkdir()
    domains = ten_in_parquet(tmp_path / "parquet"), ten_in_zips(tmp_path / "zips")
    samples = UnpairedDataset(*domains, SIZE)
    alone = collate([samples[position] for position in range(8)])
    spawned = DataLoader(
        samples,
        batch_sampler=[[0, 1, 2, 3], [4, 5, 6, 7]],
        num_workers=2,
        collate_fn=collate,
        multiprocessing_context="spawn",
    )
    first, second = spawned
    assert first.source.tolist() + second.source.tolist() == alone.source.tolist()
    assert first.target.tolist() + second.target.tolist() == alone.target.tolist()


@pytest.mark.parametrize("kind", ["zip", "parquet"])
def test_processes_forked_midway_do_not_disturb_each_other(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What follows a image is not looked at, but makes reading it take long enough to be disturbed.
    noise = np.random.default_rng(0).bytes(200_000)
    images = [png(number) + noise for number in range(8)]
    domain: Domain
    if kind == "zip":
        write_zip(tmp_path / "a.zip", {f"{number}.png": data for number, data in enumerate(images)})
        domain = files_domain(tmp_path)
    else:
        monkeypatch.setattr(parquet, "_WINDOW_ROWS", 1)
        pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet", row_group_size=1)
        domain = parquet_domain(tmp_path)
    assert number_of(domain.image(0, 0)) == 0
    children = [_fork_and_read(domain) for _ in range(2)]
    assert _reads_rightly(domain)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]


def _reads_rightly(domain: Domain) -> bool:
    return all([*chain(*numbers(domain))] == list(range(8)) for _ in range(10))


def _fork_and_read(domain: Domain) -> int:
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if _reads_rightly(domain) else 1)
        finally:
            os._exit(2)
    return child


@kinds
def test_what_describes_a_image_describes_no_other(write: Any, tmp_path: Path) -> None:
    domain = write(tmp_path)
    described = [
        domain.describe(block, row) for block, held in enumerate(BLOCKS) for row in range(len(held))
    ]
    assert len(set(described)) == 10 and all(text.startswith(str(tmp_path)) for text in described)
