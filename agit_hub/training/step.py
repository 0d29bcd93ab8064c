"""One optimiser step of all six networks, in the notation of the paper.

A step is a sequence of updates. An update trains the generators and attention networks of its directions
together, then the discriminators of these directions. The paper's joint step is one update of both
directions; the authors' code makes one update for each, with a new forward pass.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from agit_hub.data.loader import Batch
from agit_hub.losses import (
    ADVERSARIAL,
    attention_shortfall,
    cycle_consistency,
    mask_loss,
    structure_change,
)
from agit_hub.models.agit import Translation
from agit_hub.models.equations import foreground, soft_mask
from agit_hub.training.attention_monitor import Side, attention_metrics, mean_change
from agit_hub.training.augmentation import augment
from agit_hub.training.config import TrainSettings
from agit_hub.training.distributed import make_adam, reduce
from agit_hub.training.image_pool import ImagePool
from agit_hub.training.metrics import MeanMetrics
from agit_hub.training.schedule import Phase
from agit_hub.training.setup import Cycle, Direction, TrainingNetworks

Part = TypeVar("Part")

_UPDATES: dict[Literal["joint", "official"], tuple[tuple[Direction, ...], ...]] = {
    "joint": (("st", "ts"),),
    "official": (("st",), ("ts",)),
}
_TRAINED: dict[str, tuple[Direction, ...]] = {
    "both": ("st", "ts"),
    "source_to_target": ("st",),
    "target_to_source": ("ts",),
}
SIDE_OF: dict[Direction, Side] = {"st": "source", "ts": "target"}
# Weight of the penalty for maps whose mean is below `attention_floor`.
_LAMBDA_FLOOR = 0.5


class DiscriminatorBatch(NamedTuple):
    """Input of a discriminator update: real and fake images with their attention maps."""

    real: Tensor
    real_attention: Tensor
    fake: Tensor
    fake_attention: Tensor


class Step:
    """Update all networks once.

    Args:
        networks: The six networks, on the accelerator's device.
        settings: Losses, optimisers, image pools and order of updates.
        accelerator: Precision, gradient scaling and averaging over processes.
        pool_seed: Seed of the image pools, which must differ between ranks.
    """

    def __init__(
        self,
        networks: TrainingNetworks,
        settings: TrainSettings,
        accelerator: Accelerator,
        pool_seed: int,
    ) -> None:
        self.networks = networks
        self.pools: dict[Direction, ImagePool] = {
            "st": ImagePool(settings.pool_size, 2 * pool_seed),
            "ts": ImagePool(settings.pool_size, 2 * pool_seed + 1),
        }
        self._settings = settings
        model = networks.model.config
        # A blur removes the structure that the structure loss would ask for.
        self._blurred = {"st": bool(model.source_blur), "ts": bool(model.target_blur)}
        self._trained = trained = _TRAINED[settings.directions]
        chosen = [
            tuple(d for d in each if d in trained) for each in _UPDATES[settings.update_order]
        ]
        self._updates = tuple(each for each in chosen if each)
        self._accelerator = accelerator

        def optimizer(**kinds: Iterable[nn.Module]) -> AcceleratedOptimizer:
            parameters = {kind: [p for m in kinds[kind] for p in m.parameters()] for kind in kinds}
            groups = [
                {"params": found, "kind": kind} for kind, found in parameters.items() if found
            ]
            return accelerator.prepare_optimizer(make_adam(groups, settings, accelerator.device))

        # One optimiser per update, because fp16's scaler handles all gradients of an update at once.
        self.optimizers: dict[str, AcceleratedOptimizer] = {}
        for directions in self._updates:
            self.optimizers[_generators(directions)] = optimizer(
                generators=[networks.generator(d) for d in directions],
                attention=[networks.attention(d) for d in directions],
            )
            self.optimizers[_discriminators(directions)] = optimizer(
                discriminators=[networks.discriminator(d) for d in directions]
            )

    def __call__(
        self,
        batches: Sequence[Batch],
        phase: Phase,
        further_batches: Sequence[Sequence[Batch]] = (),
    ) -> dict[str, Tensor]:
        """Run one optimiser step.

        Args:
            batches: Micro-batches of equal size, whose gradients are accumulated.
            phase: Learning rates, weights and mask of this step.
            further_batches: Micro-batches of each further discriminator update.

        Returns:
            Means over the micro-batches, scalars on the device: `loss/adversarial_st`,
            `loss/adversarial_ts`, `loss/cycle_s`, `loss/cycle_t` (before lambda),
            `loss/discriminator_s`, `loss/discriminator_t`, with masks `loss/mask_s` and `loss/mask_t`
            (before lambda, images without a mask counting as 0), and `attention/source/*`,
            `attention/target/*` (see `attention_metrics` and `mean_change`). Of a direction that is not
            trained there are no losses, and no change.
        """
        if self._settings.torch_compile_mode != "default":
            # Allow CUDA graphs to overwrite the outputs of the previous step.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # Validation and sample grids leave the networks in evaluation mode.
        self.networks.train()
        metrics = MeanMetrics()
        for directions in self._updates:
            self._update_networks(directions, batches, phase, metrics)
        for replayed_batches in further_batches:
            for directions in self._updates:
                replayed = [
                    {d: self._replay_batch(d, batch, phase) for d in directions}
                    for batch in replayed_batches
                ]
                self._update_discriminators(directions, replayed, phase, metrics)
        return metrics.means()

    def _update_networks(
        self,
        directions: Sequence[Direction],
        batches: Sequence[Batch],
        phase: Phase,
        metrics: MeanMetrics,
    ) -> None:
        networks = self.networks
        translated: list[dict[Direction, Translation]] = [{} for _ in batches]

        def loss(part: tuple[int, Direction]) -> Tensor:
            number, d = part
            # Without a cycle loss, only a direction without other losses needs the reconstruction.
            reconstruct = self._settings.lambda_cyc > 0 or d not in directions
            cycle = networks.cycle(d, batches[number], reconstruct)
            translated[number][d] = Translation(*(each.detach() for each in cycle.translation))
            return self._generator_loss(d, batches[number], cycle, phase, d in directions, metrics)

        trained = [networks.generator(d) for d in directions]
        if phase.train_attention:
            trained += [networks.attention(d) for d in directions]
        # The directions' graphs are independent, so only one at a time is held in memory.
        parts = [(number, d) for number in range(len(batches)) for d in self._trained]
        with _only_trainable(networks, trained):
            rates = {
                "generators": phase.learning_rate,
                "attention": phase.attention_learning_rate,
            }
            self._update(_generators(directions), loss, parts, rates, len(batches))
        maps = [
            self._maps(batch, each, metrics)
            for batch, each in zip(batches, translated, strict=True)
        ]
        pooled = [
            {d: self._pooled_batch(d, batch, each[d], own) for d in directions}
            for batch, each, own in zip(batches, translated, maps, strict=True)
        ]
        self._update_discriminators(directions, pooled, phase, metrics)

    def _maps(
        self, batch: Batch, translated: Mapping[Direction, Translation], metrics: MeanMetrics
    ) -> dict[Direction, Tensor]:
        """Return the maps of the real images of both directions, also of one that is not trained."""
        maps = {d: translation.attention for d, translation in translated.items()}
        for d in SIDE_OF:
            if d not in maps:
                maps[d] = self._map(d, batch.source if d == "st" else batch.target)
                self._measure(d, maps[d], metrics)
        return maps

    def _map(self, direction: Direction, image: Tensor) -> Tensor:
        """Return the maps of images that a direction translates, without a gradient."""
        with torch.no_grad(), self._accelerator.autocast():
            attention: Tensor = self.networks.attention(direction)(image)
        return attention

    def _measure(self, direction: Direction, attention: Tensor, metrics: MeanMetrics) -> None:
        measured = attention_metrics(attention, self._settings.attention_threshold)
        for name, value in measured.items():
            metrics.add(f"attention/{SIDE_OF[direction]}/{name}", value)

    def _generator_loss(
        self,
        direction: Direction,
        batch: Batch,
        cycle: Cycle,
        phase: Phase,
        adversarial: bool,
        metrics: MeanMetrics,
    ) -> Tensor:
        """Compute the loss of one direction for generators and attention."""
        settings, domain, translation = self._settings, direction[0], cycle.translation
        self._measure(direction, translation.attention, metrics)
        image = batch.source if direction == "st" else batch.target
        change = mean_change(image, translation.image)
        metrics.add(f"attention/{SIDE_OF[direction]}/change", change)
        loss = image.new_zeros(())
        if cycle.reconstruction is not None:
            value = cycle_consistency(image, cycle.reconstruction.image)
            loss = phase.lambda_cyc * metrics.add(f"loss/cycle_{domain}", value)
        if not adversarial:
            return loss
        if settings.lambda_structure and not self._blurred[direction]:
            features = self.networks.model.features
            assert features is not None
            value = structure_change(features, image, translation.image)
            loss = loss + settings.lambda_structure * metrics.add(f"loss/structure_{domain}", value)
        masked = self._mask(translation.image, translation.attention, phase)
        score = self._score(direction, masked, phase)
        value = ADVERSARIAL[settings.adversarial].generator(score)
        loss = loss + metrics.add(f"loss/adversarial_{direction}", value)
        mask = batch.source_mask if direction == "st" else batch.target_mask
        if mask is not None:
            value = metrics.add(f"loss/mask_{domain}", mask_loss(translation.attention, mask))
            if phase.train_attention:
                loss = loss + settings.mask_weight * value
        if settings.attention_floor and phase.train_attention:
            shortfall = attention_shortfall(translation.attention, settings.attention_floor)
            loss = loss + _LAMBDA_FLOOR * shortfall
        return loss

    def _update_discriminators(
        self,
        directions: Sequence[Direction],
        batches: Sequence[dict[Direction, DiscriminatorBatch]],
        phase: Phase,
        metrics: MeanMetrics,
    ) -> None:
        def loss(part: tuple[Direction, DiscriminatorBatch]) -> Tensor:
            d, batch = part
            value = self._discriminator_loss(d, batch, phase)
            return metrics.add(f"loss/discriminator_{d[1]}", value)

        parts = [part for batch in batches for part in batch.items()]
        with _only_trainable(self.networks, [self.networks.discriminator(d) for d in directions]):
            rates = {"discriminators": phase.discriminator_learning_rate}
            self._update(_discriminators(directions), loss, parts, rates, len(batches))

    def _pooled_batch(
        self,
        direction: Direction,
        batch: Batch,
        fake: Translation,
        maps: Mapping[Direction, Tensor],
    ) -> DiscriminatorBatch:
        """Exchange the fakes through the image pool, and combine them with the real images."""
        reverse: Direction = "ts" if direction == "st" else "st"
        real = batch.target if direction == "st" else batch.source
        pooled = self.pools[direction].query(fake.image, fake.attention)
        return DiscriminatorBatch(real, maps[reverse], *pooled)

    def _replay_batch(self, direction: Direction, batch: Batch, phase: Phase) -> DiscriminatorBatch:
        """Combine other real images with fakes sampled from the image pool."""
        real = batch.target if direction == "st" else batch.source
        fakes = self.pools[direction].draw(len(real))
        if not phase.threshold:  # every pixel passes, whatever the maps are
            return DiscriminatorBatch(real, real[:, :1], *fakes)
        return DiscriminatorBatch(
            real, self._map("ts" if direction == "st" else "st", real), *fakes
        )

    def _discriminator_loss(
        self, direction: Direction, batch: DiscriminatorBatch, phase: Phase
    ) -> Tensor:
        real = self._mask(batch.real, batch.real_attention, phase)
        fake = self._mask(batch.fake, batch.fake_attention, phase)
        # In one batch: instance norms do not mix images.
        scores = self._score(direction, torch.cat([real, fake]), phase)
        parts = torch.split(scores, [len(real), len(fake)])
        return ADVERSARIAL[self._settings.adversarial].discriminator(*parts)

    def _mask(self, image: Tensor, attention: Tensor, phase: Phase) -> Tensor:
        """Mask the background of a discriminator's input, after the switch."""
        if phase.threshold and self._settings.discriminator_mask == "soft":
            return image * soft_mask(attention.detach(), phase.threshold)
        return foreground(image, attention, phase.threshold)

    def _score(self, direction: Direction, image: Tensor, phase: Phase) -> Tensor:
        image = augment(image) if self._settings.augment else image
        score: Tensor = self.networks.discriminator(direction)(image, phase.normalise)
        return score

    def _update(
        self,
        name: str,
        loss: Callable[[Part], Tensor],
        parts: Sequence[Part],
        rates: Mapping[str, float],
        batches: int,
    ) -> None:
        """Step one optimiser on the sum of the parts' losses, with one graph in memory at a time."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        # Around all parts, because autocast caches the cast weights until it exits.
        with self._accelerator.autocast():
            for part in parts:
                value = loss(part) / batches
                with torch.autocast(value.device.type, enabled=False):
                    self._accelerator.backward(value)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        average_over_processes(
            [p.grad for p in parameters if p.grad is not None], self._accelerator
        )
        if self._settings.max_grad_norm is not None:
            self._accelerator.clip_grad_norm_(parameters, self._settings.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = rates[group["kind"]]
        optimizer.step()
        # Frozen parameters must have no gradient at all: Adam moves them on a zero gradient too.
        optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return the networks and optimisers, which are the same on every rank."""
        return {
            "networks": self.networks.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.networks.load_state_dict(state["networks"], strict=True)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


def average_over_processes(tensors: Sequence[Tensor], accelerator: Accelerator) -> None:
    """Replace tensors by their mean over all processes, in place, in one message.

    This replaces DistributedDataParallel: six networks take part in two or four updates a step, and
    the switch changes which parameters are trained. Averaging the existing gradients once per update
    needs no hooks, no search for unused parameters and no `no_sync`.
    """
    if accelerator.num_processes == 1 or not tensors:
        return
    mean = reduce(accelerator, torch.cat([tensor.flatten() for tensor in tensors]), "mean")
    parts = torch.split(mean, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(
        list(tensors), [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]
    )


@contextmanager
def _only_trainable(networks: nn.Module, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Disable gradients of all networks but `modules` within the block."""
    networks.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)
    try:
        yield
    finally:
        networks.requires_grad_(True)


def _generators(directions: Sequence[Direction]) -> str:
    return "generators_" + "_".join(directions)


def _discriminators(directions: Sequence[Direction]) -> str:
    return "discriminators_" + "_".join(directions)
