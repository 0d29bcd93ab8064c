"""Starting from networks that were trained before."""

from pathlib import Path

from agit_hub.config import AGITConfig
from agit_hub.errors import ConfigError
from agit_hub.models.agit import AGITModel
from agit_hub.training import checkpoint
from agit_hub.training.networks import TrainingNetworks
from agit_hub.training.run_folder import RunFolder

_ARCHITECTURE = (
    "channels",
    "blocks",
    "upsampling",
    "residual",
    "attention",
    "attention_channels",
    "attention_decoder",
    "attention_smoothing",
    "attention_levels",
)


def warm_start(networks: TrainingNetworks, place: str) -> None:
    """Fill networks from a run folder, a model folder or a Hub repo.

    A run also gives its discriminators; a published model has none, and theirs stay as drawn.

    Args:
        networks: The six networks, changed in place.
        place: A run folder, a folder with `config.json`, or a repo id.

    Raises:
        ConfigError: If the architectures differ.
        ModelLoadError: If there is no usable model.
    """
    run = RunFolder(place)
    is_run = run.model.is_dir()
    model = AGITModel.from_pretrained(run.model if is_run else place)
    _check_same(networks.model.config, model.config, place)
    networks.model.load_state_dict(model.state_dict(), strict=True)
    newest = run.newest_checkpoint() if is_run else None
    if newest is not None:
        _take_discriminators(networks, newest)


def _check_same(ours: AGITConfig, theirs: AGITConfig, place: str) -> None:
    for key in _ARCHITECTURE:
        if getattr(ours, key) != getattr(theirs, key):
            raise ConfigError(
                f"train.init_from {place} has {key} {getattr(theirs, key)!r} and this run "
                f"model.{key} {getattr(ours, key)!r}: set --model.{key} {getattr(theirs, key)}."
            )


def _take_discriminators(networks: TrainingNetworks, newest: Path) -> None:
    state = checkpoint.unpack(checkpoint.read_state(newest / "state.pt"))
    weights = state["training"]["networks"]
    for name in ("discriminator_s", "discriminator_t"):
        own = {
            k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")
        }
        network = getattr(networks, name)
        if {k: v.shape for k, v in own.items()} == {
            k: v.shape for k, v in network.state_dict().items()
        }:
            network.load_state_dict(own, strict=True)
