"""How images reach a run: from memory or from files, and by how many worker processes.

A step on a GPU takes a few milliseconds, so there images are decoded beside it, or before it, unless the
configuration says otherwise. On a CPU workers would only take the step's own cores.
"""

import multiprocessing
import os
from pathlib import Path

import torch

from agit_hub.data.config import DomainConfig
from agit_hub.data.domains import Domain
from agit_hub.data.in_memory import InMemoryDomain, fit_in_memory
from agit_hub.training.config import DataConfig

_MOST_WORKERS = 8


def keep_in_memory(
    domains: tuple[Domain, Domain], settings: DataConfig, device: torch.device
) -> tuple[Domain, Domain]:
    """The domains, with their images decoded now where `data.in_memory` says so, or its rule.

    Args:
        domains: Source and target.
        settings: `in_memory`; where it is null, images of folders are kept for a GPU if they fit.
        device: Where the run trains.

    Raises:
        PicturesError: If images are unavailable.
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
