"""Load the images of a training run from memory or files, by worker processes or in the main process.

A step on a GPU takes milliseconds, so images are decoded beside it or in advance unless configured
otherwise. On a CPU worker processes would only compete with the step for cores.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from agit_hub.data.config import DataConfig, DomainConfig
from agit_hub.data.dataset import (
    InfiniteBatchSampler,
    UnpairedBatch,
    UnpairedDataset,
    collate,
    make_loader,
)
from agit_hub.data.domains.base import Domain
from agit_hub.data.domains.in_memory import InMemoryDomain, fit_in_memory
from agit_hub.inference.image_processor import from_uint8

_MAX_WORKERS = 8
# Position in the order of samples from which batches are used for warm-up, before the first step.
_WARMUP_START = 10**8

OnUnreadable = Callable[[list[str]], None]
"""Called with the names of images that could not be read."""


class Batch(NamedTuple):
    """Unpaired images, each (N, 3, H, W) in [-1, 1], and masks of some of them."""

    source: Tensor
    target: Tensor
    source_mask: Tensor | None = None
    """(N, 1, H, W) in [0, 1], 1 on objects, and `NO_MASK` for an image without a mask; None if no image
    of the domain has one."""
    target_mask: Tensor | None = None


@dataclass
class UnpairedLoader:
    """Batches of unpaired images on a device.

    Raises:
        DatasetError: If images are to be kept in memory and are unavailable.
    """

    domains: tuple[Domain, Domain]
    config: DataConfig
    _: KW_ONLY
    batch_size: int
    """Images of each domain in a batch."""
    crop_size: int
    """Side of the training crops in pixels."""
    image_size: int
    """Side of whole images in pixels."""
    seed: int
    """Seed of the order and the augmentation."""
    device: torch.device
    rank: int = 0
    processes: int = 1
    memory_format: torch.memory_format = torch.contiguous_format
    worker_init: Callable[[int], None] | None = None
    """Called in each worker with its number."""
    starting: Callable[[], AbstractContextManager[None]] = nullcontext
    """The context in which workers are started."""

    def __post_init__(self) -> None:
        self.domains = keep_in_memory(self.domains, self.config, self.device)
        self.num_workers = resolve_num_workers(
            self.domains, self.config, self.device, self.processes
        )
        margin, zoom = self.config.crop_margin, self.config.zoom
        self._crops = self._dataset(self.crop_size, crop_margin=margin, zoom=zoom)

    @property
    def counts(self) -> list[int | None]:
        """Images in each domain; None if they are not counted yet."""
        return [domain.length for domain in self.domains]

    @property
    def epoch(self) -> int | None:
        """Images in the larger domain; None if a domain is not counted yet."""
        return self._crops.epoch

    @property
    def summary(self) -> str | None:
        """For the log: size of the images in memory and number of workers; None if none is in memory."""
        kept = [domain for domain in self.domains if isinstance(domain, InMemoryDomain)]
        if not kept:
            return None
        megabytes = sum(domain.megabytes for domain in kept)
        return f"Images are kept in memory: {megabytes:.1f} MB; loader workers: {self.num_workers}."

    def crops(self, start: int, on_unreadable: OnUnreadable) -> Iterator[Batch]:
        """Yield training crops endlessly, from this rank's batch number `start` on."""
        return self._batches(self._crops, start, on_unreadable)

    def whole_images(self, on_unreadable: OnUnreadable) -> Iterator[Batch]:
        """Yield whole images at `image_size` endlessly, in an order that the crops do not use."""
        return self._batches(self._dataset(self.image_size), _WARMUP_START, on_unreadable)

    def first_images(self, count: int) -> Batch:
        """Return the first images of both domains, at most `count` of each, whole and not mirrored."""
        dataset = UnpairedDataset(*self.domains, self.image_size, flip=False, shuffle=False)
        count = min([count, *(length for length in self.counts if length is not None)])
        return self._to_device(collate([dataset[number] for number in range(count)]))

    def _dataset(
        self, size: int, *, crop_margin: float = 1.0, zoom: float = 1.0
    ) -> UnpairedDataset:
        return UnpairedDataset(
            *self.domains,
            size,
            crop_margin=crop_margin,
            zoom=zoom,
            flip=self.config.flip,
            shuffle=self.config.pairing == "random",
            seed=self.seed,
        )

    def _batches(
        self, dataset: UnpairedDataset, start: int, on_unreadable: OnUnreadable
    ) -> Iterator[Batch]:
        sampler = InfiniteBatchSampler(self.batch_size, self.rank, self.processes, start)
        loader = make_loader(dataset, sampler, self.num_workers, self.worker_init)
        with self.starting():
            batches = iter(loader)
        for batch in batches:
            on_unreadable(batch.unreadable)
            yield self._to_device(batch)

    def _to_device(self, batch: UnpairedBatch) -> Batch:
        source, target = (
            from_uint8(pixels.to(self.device, non_blocking=True)).contiguous(
                memory_format=self.memory_format
            )
            for pixels in (batch.source, batch.target)
        )
        masks = (
            None if mask is None else mask.to(self.device, non_blocking=True)
            for mask in (batch.source_mask, batch.target_mask)
        )
        return Batch(source, target, *masks)


def keep_in_memory(
    domains: tuple[Domain, Domain], config: DataConfig, device: torch.device
) -> tuple[Domain, Domain]:
    """Decode all images of both domains if `data.in_memory`, or its default for `device`, is true.

    Raises:
        DatasetError: If images are unavailable.
    """
    wanted = config.in_memory
    if wanted is None:
        folders = _is_folder(config.source) and _is_folder(config.target)
        wanted = (
            device.type != "cpu" and folders and _workers_share_memory() and fit_in_memory(domains)
        )
    if not wanted:
        return domains
    source, target = domains
    return InMemoryDomain(source), InMemoryDomain(target)


def resolve_num_workers(
    domains: tuple[Domain, Domain], config: DataConfig, device: torch.device, processes: int
) -> int:
    """Return `data.num_workers`, or its default for the device and the number of processes."""
    if config.num_workers is not None:
        return config.num_workers
    if device.type == "cpu":
        return 0
    if isinstance(domains[0], InMemoryDomain) and not _workers_share_memory():
        return 0
    return min(_MAX_WORKERS, max(1, (os.cpu_count() or 1) // processes - 1))


def _is_folder(domain: DomainConfig) -> bool:
    return Path(domain.path).expanduser().is_dir()


def _workers_share_memory() -> bool:
    """Whether worker processes get the memory of their parent without a copy."""
    return multiprocessing.get_start_method() == "fork"
