"""Everything before the first step: the run's settings, domains and networks."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn

from agit_hub.config import AGITConfig
from agit_hub.data.images import Range
from agit_hub.data.load import LoadedDomain, load_domains
from agit_hub.data.loader import Batch
from agit_hub.data.ordering import Order
from agit_hub.errors import ConfigError
from agit_hub.models.agit import AGITModel, Translation
from agit_hub.models.backbone import FrozenBackbone, load_imagenet_weights
from agit_hub.models.discriminators import (
    MixedDiscriminator,
    PatchDiscriminator,
    ProjectedDiscriminator,
)
from agit_hub.models.location import find_model
from agit_hub.runs import RunFolder
from agit_hub.training import checkpoint
from agit_hub.training.callbacks.push import check_repo
from agit_hub.training.config import TrainConfig, TrainSettings
from agit_hub.training.resume import open_run

Direction = Literal["st", "ts"]

# Settings of the weights. The others, such as labels and image size, may differ in a warm start.
_ARCHITECTURE = (
    *("channels", "blocks", "upsampling", "residual", "attention", "attention_channels"),
    *("attention_decoder", "attention_smoothing", "attention_levels"),
)


@dataclass(frozen=True)
class RunSetup:
    """The resolved settings of a run, its domains, and where it resumes."""

    config: TrainConfig
    source: LoadedDomain
    target: LoadedDomain
    checkpoint: Path | None
    """Checkpoint to resume from; None to start."""


def setup_run(config: TrainConfig, folder: RunFolder, resume: bool) -> RunSetup:
    """Lock and check the run folder, load the domains, and resolve the options left unset.

    Raises:
        ConfigError: If the settings do not match the run folder.
        DataError: If a domain cannot be used.
        FetchError: If the network keeps failing.
    """
    config, latest = open_run(config, folder, resume)
    if config.hub.push_to_hub:
        check_repo(config.hub)
    data = config.data
    resized = round(config.crop_size * data.crop_margin * data.zoom)
    # Sample grids show images at the networks' size.
    needed = max(resized, config.model.image_size)
    # A resumed run does not begin with the first images, and has its ranges.
    order = Order(config.train.seed, data.pairing == "random") if latest is None else None
    ranges = _ranges(config, latest)
    source, target = load_domains(
        data.source, data.target, needed, data.hub_timeout, ranges=ranges, order=order
    )
    model = replace(
        config.model,
        source_range=source.value_range and list(source.value_range),
        target_range=target.value_range and list(target.value_range),
    )
    data = replace(data, source=source.config, target=target.config)
    config = replace(config, data=data, model=model)
    # The setup is sent to the other ranks, which need no inventory and no headers.
    source, target = (
        domain._replace(inventory=None, survey=None).subset(config.eval.holdout, held_out=False)
        for domain in (source, target)
    )
    return RunSetup(config, source, target, latest)


def _ranges(config: TrainConfig, latest: Path | None) -> tuple[Range | None, Range | None] | None:
    """Return the ranges of values of both domains; None to infer them."""
    given, model = config.data.value_range, config.model
    if given != "auto":
        return (given[0], given[1]), (given[0], given[1])
    if latest is None and model.source_range is None and model.target_range is None:
        return None
    return model.value_range(model.target_label), model.value_range(model.source_label)


class Cycle(NamedTuple):
    """Forward pass of one direction."""

    translation: Translation
    """For s: s', s_a and F_ST(s)."""
    reconstruction: Translation | None
    """For s: s'', A_T(s') and F_TS(s'); None if it was not computed."""


class TrainingNetworks(nn.Module):
    """The six networks: the published model and the two discriminators."""

    def __init__(self, model: AGITModel, make_discriminator: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.model = model
        self.discriminator_s = make_discriminator()
        self.discriminator_t = make_discriminator()

    def cycle(self, direction: Direction, batch: Batch, reconstruct: bool = True) -> Cycle:
        """Compute s -> s' -> s'', or t -> t' -> t''; without `reconstruct` only s' or t'."""
        st, ts = self.model.source_to_target, self.model.target_to_source
        first, second = (st, ts) if direction == "st" else (ts, st)
        translation = first(batch.source if direction == "st" else batch.target)
        return Cycle(translation, second(translation.image) if reconstruct else None)

    def compile_each(self, mode: str = "default") -> None:
        """Compile each network in place; weights and their names are unchanged.

        Discriminators see batches of two sizes: a graph for each is faster than one for any size.
        """
        for direction in get_args(Direction):
            for network in (self.generator, self.attention, self.discriminator):
                network(direction).compile(mode=mode, dynamic=False)

    def generator(self, direction: Direction) -> nn.Module:
        """Return F_ST or F_TS."""
        return self.model.generator_st if direction == "st" else self.model.generator_ts

    def attention(self, direction: Direction) -> nn.Module:
        """Return the attention network of the input domain: A_S or A_T."""
        return self.model.attention_s if direction == "st" else self.model.attention_t

    def discriminator(self, direction: Direction) -> nn.Module:
        """Return the discriminator of the output domain: D_T or D_S."""
        return self.discriminator_t if direction == "st" else self.discriminator_s


def build_networks(config: TrainConfig, warm: bool) -> TrainingNetworks:
    """Create the six networks from the seed, or with `warm` from `train.init_from` if it is set.

    Raises:
        ConfigError: If the architecture of `train.init_from` differs.
        ModelLoadError: If `train.init_from` is not a usable model.
    """
    set_seed(config.train.seed)
    train = config.train
    model = AGITModel(config.model)
    if model.features is not None:
        load_imagenet_weights(model.features)
    networks = TrainingNetworks(model, discriminator_factory(train, model.features))
    if train.init_from and warm:
        _warm_start(networks, train.init_from)
    return networks


def discriminator_factory(
    settings: TrainSettings, features: FrozenBackbone | None = None
) -> Callable[[], nn.Module]:
    """Return a function that creates a discriminator as configured.

    Discriminators on features share the model's backbone, if it has one.
    """
    channels = settings.discriminator_channels
    if settings.discriminator == "patch":
        return partial(PatchDiscriminator, channels, settings.discriminator_layers)
    features = features or load_imagenet_weights(FrozenBackbone())
    if settings.discriminator == "mixed":
        return partial(MixedDiscriminator, features, channels, settings.discriminator_pixels)
    return partial(ProjectedDiscriminator, features, channels)


def _warm_start(networks: TrainingNetworks, init_from: str) -> None:
    """Load weights from a run folder, a model folder or a Hub repo.

    A run folder also provides its discriminators' weights; a published model has none.
    """
    run = RunFolder(init_from)
    is_run = run.model.is_dir()
    model = AGITModel.from_pretrained(run.model if is_run else init_from)
    _check_architecture(networks.model.config, model.config, init_from)
    networks.model.load_state_dict(model.state_dict(), strict=True)
    latest = run.latest_checkpoint() if is_run else None
    if latest is None:
        return
    state = checkpoint.unpack(checkpoint.read_state(latest / "state.pt"))
    weights = state["training"]["networks"]
    for name in ("discriminator_s", "discriminator_t"):
        prefix = f"{name}."
        own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
        network = getattr(networks, name)
        shapes = {k: v.shape for k, v in network.state_dict().items()}
        if {k: v.shape for k, v in own.items()} == shapes:
            network.load_state_dict(own, strict=True)


def _check_architecture(ours: AGITConfig, theirs: AGITConfig, init_from: str) -> None:
    for key in _ARCHITECTURE:
        if getattr(ours, key) != getattr(theirs, key):
            raise ConfigError(
                f"train.init_from {init_from} has {key} {getattr(theirs, key)!r} and this run "
                f"model.{key} {getattr(ours, key)!r}: set --model.{key} {getattr(theirs, key)}."
            )


def base_model(setup: RunSetup, folder: RunFolder) -> dict[str, str]:
    """Return the entry of `run.json` that names the Hub's model a run began with; empty without one."""
    init_from = setup.config.train.init_from
    if setup.checkpoint is not None:
        # A folder that it began with may be gone since, and its name look like a repository's.
        base = folder.read_info().get("base_model")
    else:
        base = init_from if init_from and find_model(init_from) is None else None
    return {"base_model": base} if base else {}


def run_summary(setup: RunSetup, step: int, total: int, accelerator: Accelerator) -> Iterator[str]:
    """Yield the lines to log after `step` of `total` steps, before training: length, data, hardware."""
    config, labels, device = setup.config, setup.config.model, accelerator.device
    source, target = (side.domain.length or "uncounted" for side in (setup.source, setup.target))
    verb = f"Resuming at step {step} of" if step else "Training for"
    yield (
        f"{verb} {total} steps on {source} {labels.source_label} and {target} {labels.target_label} "
        f"images; {accelerator.num_processes} process(es) on {device.type}, mixed_precision "
        f"{config.train.mixed_precision}. Run folder: {RunFolder(config.output_dir).path}"
    )
    for label, side in zip(labels.labels, (setup.source, setup.target), strict=True):
        yield f"{label}: {side.summary}"
        yield from side.notes
    held_out = ", held-out ones included" if config.eval.holdout else ""
    for name, side in (("source", setup.source), ("target", setup.target)):
        if side.masks is not None:
            yield (
                f"masks: {side.masks} {name} images ({side.masks.place}){held_out}, train.lambda_mask "
                f"{config.train.mask_weight:g}"
            )
    threads, cores = torch.get_num_threads(), os.cpu_count() or 1
    if device.type == "cpu" and accelerator.num_processes == 1 and threads < cores:
        yield (
            f"Using {threads} of {cores} cores: accelerate launch --num_cpu_threads_per_process "
            f"{cores} uses all of them."
        )
