"""One optimiser step: generators and attention against discriminators, in the paper's letters.

The step is a sequence of turns. In a turn the generators and attention networks of its directions are
updated together, then the discriminators that judge them. The paper's joint step is one turn of both
directions; the authors' code takes two turns of one direction each, with a new forward pass for each.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from agit_hub.losses import ADVERSARIAL, attention_shortfall, cycle_consistency, structure_change
from agit_hub.models.agit import Translation
from agit_hub.models.equations import foreground, soft_mask
from agit_hub.training.attention_monitor import Side, attention_figures
from agit_hub.training.augmentation import augmented
from agit_hub.training.config import TrainSettings
from agit_hub.training.device import adam
from agit_hub.training.domain_labels import labels_of_maps
from agit_hub.training.figures import MeanMetrics
from agit_hub.training.image_pool import ImagePool
from agit_hub.training.networks import Batch, Cycle, Direction, TrainingNetworks
from agit_hub.training.schedule import Phase

Part = TypeVar("Part")

TURNS: dict[Literal["joint", "official"], tuple[tuple[Direction, ...], ...]] = {
    "joint": (("st", "ts"),),
    "official": (("st",), ("ts",)),
}
SIDE_OF: dict[Direction, Side] = {"st": "source", "ts": "target"}


class Judged(NamedTuple):
    """What a discriminator is trained on: pictures, each with its own domain's or maker's map."""

    real: Tensor
    real_attention: Tensor
    fake: Tensor
    fake_attention: Tensor


class Step:
    """Updates every network once.

    Args:
        networks: The six networks, on the accelerator's device.
        settings: Optimiser, pool and order of updates.
        accelerator: Precision, gradient scaling and averaging over processes.
        pool_seed: Of the image pools' swaps; differs from rank to rank.
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
        self._turns = TURNS[settings.update_order]
        self._accelerator = accelerator

        def optimizer(**kinds: Iterable[nn.Module]) -> AcceleratedOptimizer:
            parameters = {kind: [p for m in kinds[kind] for p in m.parameters()] for kind in kinds}
            groups = [{"params": found, "of": kind} for kind, found in parameters.items() if found]
            return accelerator.prepare_optimizer(adam(groups, settings, accelerator.device))

        # One optimiser an update, for fp16's scaler is told of each update's gradients at once.
        self.optimizers: dict[str, AcceleratedOptimizer] = {}
        for turn in self._turns:
            self.optimizers[_generators(turn)] = optimizer(
                generators=[networks.generator(d) for d in turn],
                attention=[networks.attention(d) for d in turn],
            )
            self.optimizers[_discriminators(turn)] = optimizer(
                discriminators=[networks.discriminator(d) for d in turn]
            )

    def __call__(
        self, batches: Sequence[Batch], phase: Phase, more: Sequence[Sequence[Batch]] = ()
    ) -> dict[str, Tensor]:
        """Run one optimiser step.

        Args:
            batches: Micro-batches of equal size, whose gradients add up to the large batch's.
            phase: What the schedule says of this step.
            more: Micro-batches for each further update of the discriminators.

        Returns:
            Means over the micro-batches, scalars on the device: `loss/adversarial_st`,
            `loss/adversarial_ts`, `loss/cycle_s`, `loss/cycle_t` (before lambda),
            `loss/discriminator_s`, `loss/discriminator_t`, and `attention/source/*`,
            `attention/target/*` (see `attention_figures`).
        """
        if self._settings.torch_compile_mode != "default":
            # What CUDA graphs returned in the step before may be written over.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        # Whoever measured or drew in between left them in evaluation mode.
        self.networks.train()
        figures = MeanMetrics()
        for turn in self._turns:
            self._turn(turn, batches, phase, figures)
        for others in more:
            self._discriminate_again(others, phase, figures)
        return figures.means()

    def _turn(
        self,
        turn: Sequence[Direction],
        batches: Sequence[Batch],
        phase: Phase,
        figures: MeanMetrics,
    ) -> None:
        networks = self.networks
        translated: list[dict[Direction, Translation]] = [{} for _ in batches]

        def generator_loss(part: tuple[int, Direction]) -> Tensor:
            number, d = part
            # Without a cycle loss the way back is for a direction that has no other loss in this turn.
            back = self._settings.lambda_cyc > 0 or d not in turn
            cycle = networks.cycle(d, batches[number], back)
            translated[number][d] = Translation(*(each.detach() for each in cycle.there))
            return self._generator_loss(d, batches[number], cycle, phase, d in turn, figures)

        makers = [networks.generator(d) for d in turn]
        if phase.train_attention:
            makers += [networks.attention(d) for d in turn]
        # Directions share weights and nothing else, so one at a time is held in memory.
        parts = [(number, d) for number in range(len(batches)) for d in SIDE_OF]
        with _only_trainable(networks, makers):
            rates = {
                "generators": phase.learning_rate,
                "attention": phase.attention_learning_rate,
            }
            self._update(_generators(turn), generator_loss, parts, rates, len(batches))
        judged = [
            {d: self._judge_later(d, batch, there) for d in turn}
            for batch, there in zip(batches, translated, strict=True)
        ]
        self._discriminate(turn, judged, phase, figures)

    def _generator_loss(
        self,
        direction: Direction,
        batch: Batch,
        cycle: Cycle,
        phase: Phase,
        judged: bool,
        figures: MeanMetrics,
    ) -> Tensor:
        """What one direction adds to the loss of generators and attention."""
        domain, there = direction[0], cycle.there
        health = attention_figures(there.attention, self._settings.attention_threshold)
        for name, value in health.items():
            figures.add(f"attention/{SIDE_OF[direction]}/{name}", value)
        picture = batch.source if direction == "st" else batch.target
        loss = picture.new_zeros(())
        if cycle.back is not None:
            again = cycle_consistency(picture, cycle.back.image)
            loss = phase.lambda_cyc * figures.add(f"loss/cycle_{domain}", again)
        if not judged:
            return loss
        if self._settings.lambda_structure:
            features = self.networks.model.features
            assert features is not None
            changed = structure_change(features, picture, there.image)
            kept = figures.add(f"loss/structure_{domain}", changed)
            loss = loss + self._settings.lambda_structure * kept
        score = self._score(direction, self._seen(there.image, there.attention, phase), phase)
        fooled = ADVERSARIAL[self._settings.adversarial].generator(score)
        loss = loss + figures.add(f"loss/adversarial_{direction}", fooled)
        if self._settings.lambda_labels and phase.train_attention:
            other = batch.target if direction == "st" else batch.source
            mistaken = self.networks.attention(direction)(other)
            labels = labels_of_maps(there.attention, mistaken)
            found = figures.add(f"loss/labels_{domain}", labels)
            loss = loss + self._settings.lambda_labels * found
        if self._settings.attention_floor and phase.train_attention:
            shortfall = attention_shortfall(there.attention, self._settings.attention_floor)
            loss = loss + self._settings.lambda_floor * shortfall
        return loss

    def _discriminate(
        self,
        turn: Sequence[Direction],
        judged: Sequence[dict[Direction, Judged]],
        phase: Phase,
        figures: MeanMetrics,
    ) -> None:
        def loss(part: tuple[Direction, Judged]) -> Tensor:
            d, seen = part
            found = self._discriminator_loss(d, seen, phase)
            return figures.add(f"loss/discriminator_{d[1]}", found)

        parts = [part for pictures in judged for part in pictures.items()]
        with _only_trainable(self.networks, [self.networks.discriminator(d) for d in turn]):
            rates = {"discriminators": phase.discriminator_learning_rate}
            self._update(_discriminators(turn), loss, parts, rates, len(judged))

    def _discriminate_again(
        self, batches: Sequence[Batch], phase: Phase, figures: MeanMetrics
    ) -> None:
        """Update the discriminators on other real pictures, and on fakes that the pools remember."""
        for turn in self._turns:
            judged = [{d: self._judge_again(d, batch, phase) for d in turn} for batch in batches]
            self._discriminate(turn, judged, phase, figures)

    def _judge_again(self, direction: Direction, batch: Batch, phase: Phase) -> Judged:
        real = batch.target if direction == "st" else batch.source
        fakes = self.pools[direction].draw(len(real))
        if not phase.threshold:  # whatever the maps are, every pixel passes
            return Judged(real, real[:, :1], *fakes)
        attention = self.networks.attention("ts" if direction == "st" else "st")
        with torch.no_grad(), self._accelerator.autocast():
            return Judged(real, attention(real), *fakes)

    def _judge_later(
        self, direction: Direction, batch: Batch, translated: dict[Direction, Translation]
    ) -> Judged:
        """Pass the fakes through the image pool, and put the real pictures beside them."""
        fake, reverse = translated[direction], translated["ts" if direction == "st" else "st"]
        real = batch.target if direction == "st" else batch.source
        pooled = self.pools[direction].query(fake.image, fake.attention)
        return Judged(real, reverse.attention.detach(), *pooled)

    def _discriminator_loss(self, direction: Direction, judged: Judged, phase: Phase) -> Tensor:
        real = self._seen(judged.real, judged.real_attention, phase)
        fake = self._seen(judged.fake, judged.fake_attention, phase)
        # At once: each picture has norms of its own.
        scores = self._score(direction, torch.cat([real, fake]), phase)
        parts = torch.split(scores, [len(real), len(fake)])
        return ADVERSARIAL[self._settings.adversarial].discriminator(*parts)

    def _seen(self, image: Tensor, attention: Tensor, phase: Phase) -> Tensor:
        """What a discriminator is shown of a picture."""
        if phase.threshold and self._settings.discriminator_mask == "soft":
            margin = self._settings.discriminator_margin
            return image * soft_mask(attention.detach(), phase.threshold, margin)
        return foreground(image, attention, phase.threshold)

    def _score(self, direction: Direction, seen: Tensor, phase: Phase) -> Tensor:
        seen = augmented(seen) if self._settings.augment else seen
        score: Tensor = self.networks.discriminator(direction)(seen, phase.normalise)
        return score

    def _update(
        self,
        name: str,
        loss: Callable[[Part], Tensor],
        parts: Sequence[Part],
        rates: Mapping[str, float],
        batches: int,
    ) -> None:
        """Step one optimiser on the parts' losses over the batches, one graph in memory at a time."""
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        # Around all parts, for it keeps each weight's cast until it is left.
        with self._accelerator.autocast():
            for part in parts:
                value = loss(part) / batches
                with torch.autocast(value.device.type, enabled=False):
                    self._accelerator.backward(value)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        average_over_processes(
            [p.grad for p in parameters if p.grad is not None], self._accelerator
        )
        if self._settings.clip_norm is not None:
            self._accelerator.clip_grad_norm_(parameters, self._settings.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = rates[group["of"]]
        optimizer.step()
        # Frozen parameters must have no gradient at all, for Adam moves on a zero one too.
        optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """TrainingNetworks and optimisers, which are the same on every rank."""
        return {
            "networks": self.networks.state_dict(),
            "optimizers": {name: o.state_dict() for name, o in self.optimizers.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.networks.load_state_dict(state["networks"], strict=True)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state["optimizers"][name])


def average_over_processes(tensors: Sequence[Tensor], accelerator: Accelerator) -> None:
    """Replace tensors by their mean over all processes, in place, in one message.

    This stands in for DistributedDataParallel: six networks take part in two or four updates a step,
    and at the switch the set of trained parameters changes. Averaging what is there, once an update,
    needs no hooks, no unused-parameter search and no `no_sync`.
    """
    if accelerator.num_processes == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    mean = accelerator.reduce(flat, reduction="mean")
    assert isinstance(mean, Tensor)
    parts = torch.split(mean, [tensor.numel() for tensor in tensors])
    torch._foreach_copy_(
        list(tensors), [part.view_as(t) for part, t in zip(parts, tensors, strict=True)]
    )


@contextmanager
def _only_trainable(networks: nn.Module, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block only these modules' weights take gradients: autograd skips all others."""
    networks.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)
    try:
        yield
    finally:
        networks.requires_grad_(True)


def _generators(turn: Sequence[Direction]) -> str:
    return "generators_" + "_".join(turn)


def _discriminators(turn: Sequence[Direction]) -> str:
    return "discriminators_" + "_".join(turn)
