"""All stored domains: random access, pickling, worker processes and forks."""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
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
from agit_hub.data.domains.base import Domain, ProcessCache
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
def test_domain_random_access_gives_the_right_images(write: Any, tmp_path: Path) -> None:
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
def test_domain_pickled_gives_same_images_and_stores_none(write: Any, tmp_path: Path) -> None:
    domain = write(tmp_path)
    fresh = len(pickle.dumps(domain))
    assert numbers(domain) == BLOCKS
    used = pickle.dumps(domain)
    assert len(used) < fresh + 100  # a webdataset has counted its shards by now
    assert b"PNG" not in used and b"IDAT" not in used
    assert numbers(pickle.loads(used)) == BLOCKS
    assert numbers(domain) == BLOCKS


@kinds
def test_loader_workers_give_same_images(write: Any, tmp_path: Path) -> None:
    domain = write(tmp_path)
    samples = UnpairedDataset(domain, domain, SIZE, seed=1)
    forked = stream(samples, 2)  # the files are not opened yet
    alone = stream(samples, 0)
    assert forked == alone
    assert stream(samples, 2) == alone  # the files were opened before the workers were forked
    sources = [samples[position].source for position in range(10)]
    assert sorted(int(source[0, 0, 0]) for source in sources) == list(range(10, 20))


@pytest.mark.slow
def test_loader_spawned_workers_give_same_images(tmp_path: Path) -> None:
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
def test_domain_forked_processes_read_independently(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Trailing data are ignored, but make each read slow enough for other processes to interfere.
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
def test_describe_is_unique_for_each_image(write: Any, tmp_path: Path) -> None:
    domain = write(tmp_path)
    described = [
        domain.describe(block, row) for block, held in enumerate(BLOCKS) for row in range(len(held))
    ]
    assert len(set(described)) == 10 and all(text.startswith(str(tmp_path)) for text in described)


def test_process_cache_evicts_the_least_recently_used_value() -> None:
    cache: ProcessCache[int, int] = ProcessCache(2)
    computed: list[int] = []

    def square(key: int) -> int:
        computed.append(key)
        return key * key

    assert [cache.get(key, square) for key in (1, 2, 1, 3, 1, 2)] == [1, 4, 1, 9, 1, 4]
    assert computed == [1, 2, 3, 2]
    assert pickle.loads(pickle.dumps(cache)).get(1, lambda key: 0) == 0  # a copy is empty


def test_process_cache_threads_compute_a_value_once() -> None:
    cache: ProcessCache[int, object] = ProcessCache(2)
    with ThreadPoolExecutor(8) as threads:
        values = list(threads.map(lambda _: cache.get(0, lambda key: object()), range(100)))
    assert len(set(map(id, values))) == 1
