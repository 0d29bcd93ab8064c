"""How images reach a run: from memory or from files, and by how many worker processes.

A step on a GPU takes a few milliseconds, so there images are decoded beside it, or before it, unless the
configuration says otherwise. On a CPU workers would only take the step's own cores.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from accelerate import Accelerator

from agit_hub.data.config import DomainConfig
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
from agit_hub.training.config import DataConfig, TrainConfig
from agit_hub.training.device import memory_format
from agit_hub.training.networks import Batch
from agit_hub.training.signals import leave_to_parent

_MOST_WORKERS = 8
# Batches from here on are for what comes before the first step.
_FAR = 10**8

Note = Callable[[list[str]], None]
"""Takes the names of images that could not be read."""


class TrainingImages:
    """A run's images, as batches on its device.

    Args:
        config: The run.
        domains: Source and target.
        accelerator: Of the run.

    Raises:
        DatasetError: If images are to be kept in memory and are unavailable.
    """

    def __init__(
        self, config: TrainConfig, domains: tuple[Domain, Domain], accelerator: Accelerator
    ) -> None:
        self._config = config
        self._device: torch.device = accelerator.device
        self._rank: int = accelerator.process_index
        self._processes: int = accelerator.num_processes
        self._format = memory_format(config.train)
        self.domains = keep_in_memory(domains, config.data, self._device)
        self.workers = loader_workers(self.domains, config.data, self._device, self._processes)
        data = config.data
        self._crops = self._samples(config.crop_size, crop_margin=data.crop_margin, zoom=data.zoom)

    @property
    def counts(self) -> list[int | None]:
        """Images of each domain; None where they are not counted yet."""
        return [domain.length for domain in self.domains]

    @property
    def epoch(self) -> int | None:
        """As many samples as the longer domain has images; None if a domain is not counted yet."""
        return self._crops.epoch

    @property
    def summary(self) -> str | None:
        """For the log: what is kept in memory, and who crops it; None if nothing is kept."""
        kept = [domain for domain in self.domains if isinstance(domain, InMemoryDomain)]
        if not kept:
            return None
        megabytes = sum(domain.megabytes for domain in kept)
        return f"Images are kept in memory: {megabytes:.1f} MB; loader workers: {self.workers}."

    def crops(self, start: int, note: Note) -> Iterator[Batch]:
        """What the run trains on, without end, from this rank's batch `start` on."""
        return self._batches(self._crops, start, note)

    def whole(self, note: Note) -> Iterator[Batch]:
        """Whole images at the networks' size, in an order of their own."""
        return self._batches(self._samples(self._config.model.image_size), _FAR, note)

    def first(self, most: int) -> Batch:
        """The first images of both domains, whole and unmirrored, at most so many of each."""
        size = self._config.model.image_size
        shown = UnpairedDataset(*self.domains, size, flip=False, shuffle=False)
        count = min([most, *(length for length in self.counts if length is not None)])
        return self._on_device(collate([shown[number] for number in range(count)]))

    def _samples(
        self, size: int, *, crop_margin: float = 1.0, zoom: float = 1.0
    ) -> UnpairedDataset:
        data = self._config.data
        return UnpairedDataset(
            *self.domains,
            size,
            crop_margin=crop_margin,
            zoom=zoom,
            flip=data.flip,
            shuffle=data.pairing == "random",
            seed=self._config.train.seed,
        )

    def _batches(self, samples: UnpairedDataset, start: int, note: Note) -> Iterator[Batch]:
        batch_size = self._config.train.batch_size
        positions = InfiniteBatchSampler(batch_size, self._rank, self._processes, start)
        for found in make_loader(samples, positions, self.workers, leave_to_parent):
            note(found.unreadable)
            yield self._on_device(found)

    def _on_device(self, samples: UnpairedBatch) -> Batch:
        source, target = (
            from_uint8(pixels.to(self._device, non_blocking=True)).contiguous(
                memory_format=self._format
            )
            for pixels in (samples.source, samples.target)
        )
        return Batch(source, target)


def keep_in_memory(
    domains: tuple[Domain, Domain], settings: DataConfig, device: torch.device
) -> tuple[Domain, Domain]:
    """The domains, with their images decoded now where `data.in_memory` says so, or its rule.

    Args:
        domains: Source and target.
        settings: `in_memory`; where it is null, images of folders are kept for a GPU if they fit.
        device: Where the run trains.

    Raises:
        DatasetError: If images are unavailable.
    """
    wanted = settings.in_memory
    if wanted is None:
        folders = _is_folder(settings.source) and _is_folder(settings.target)
        wanted = device.type != "cpu" and folders and _workers_share() and fit_in_memory(domains)
    if not wanted:
        return domains
    source, target = domains
    return InMemoryDomain(source), InMemoryDomain(target)


def loader_workers(
    domains: tuple[Domain, Domain], settings: DataConfig, device: torch.device, processes: int
) -> int:
    """How many processes decode and crop images for one process of a run (`data.workers`)."""
    if settings.workers is not None:
        return settings.workers
    if device.type == "cpu" or (isinstance(domains[0], InMemoryDomain) and not _workers_share()):
        return 0
    return min(_MOST_WORKERS, max(1, (os.cpu_count() or 1) // processes - 1))


def _is_folder(domain: DomainConfig) -> bool:
    return Path(domain.path).expanduser().is_dir()


def _workers_share() -> bool:
    """Whether a worker process gets its parent's memory without a copy."""
    return multiprocessing.get_start_method() == "fork"
