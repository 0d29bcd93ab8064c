"""What a run begins with, found out by its first process for all of them."""

from dataclasses import dataclass, replace
from pathlib import Path

from agit_hub.data.load import LoadedDomain, load_domains
from agit_hub.errors import ConfigError
from agit_hub.training import checkpoint
from agit_hub.training.config import TrainConfig
from agit_hub.training.publisher import check_repo
from agit_hub.training.run_folder import RunFolder


@dataclass(frozen=True)
class Start:
    """A run's settings with nothing left open, its pictures, and how far it had come."""

    config: TrainConfig
    source: LoadedDomain
    target: LoadedDomain
    checkpoint: Path | None
    """Where to go on from; None to begin."""


def prepare(config: TrainConfig, resume: bool) -> Start:
    """Look at the run folder and find the pictures.

    Raises:
        ConfigError: If settings and run folder do not go together.
        DataError: If a domain cannot be used.
        FetchError: If the network stays bad.
    """
    folder = RunFolder(config.output_dir)
    if resume:
        config = folder.with_what_was_found(config)
    folder.check(config, resume)
    newest = folder.newest_checkpoint() if resume else None
    if config.hub.push_to_hub:
        check_repo(config.hub)
    data = config.data
    resized = round(config.crop_size * data.crop_margin * data.zoom)
    # Sample grids show them at the networks' size.
    needed = max(resized, config.model.image_size)
    source, target = load_domains(data.source, data.target, needed, data.network_patience)
    config = replace(config, data=replace(data, source=source.config, target=target.config))
    every = config.eval.holdout
    source, target = (loaded.subset(every, held_out=False) for loaded in (source, target))
    return Start(config, source, target, newest)


def read_checkpoint(path: Path, processes: int) -> tuple[bytes, list[bytes]]:
    """The states of a checkpoint, packed: the shared one, and each process's.

    Raises:
        ConfigError: If it is damaged, or another number of processes saved it.
    """
    shared = checkpoint.read_state(path / "state.pt")
    saved = checkpoint.unpack(shared)["processes"]
    if saved != processes:
        raise ConfigError(
            f"{path} was saved by {saved} process(es) and this run has {processes}: resume with "
            f"--num_processes {saved}."
        )
    ranks = [checkpoint.read_state(path / f"rank-{rank}.pt") for rank in range(processes)]
    return shared, ranks
