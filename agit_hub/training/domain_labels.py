"""Where the domains differ, learnt from which image is of which domain and from nothing else.

Before the run's own first step the attention networks are trained in three stages, with no mask:

1. A small classifier of single places, the teacher, learns from the domains' labels (multiple-instance
   learning): the most telling places of an image of its domain are to be 1, those of the other domain's
   images 0, and so is the border, where objects are rare.
2. What it says of each image is spread to places whose features are alike (a random walk) and stretched
   to [0, 1]: a pseudo-label for the whole object rather than for its most telling part.
3. The attention network learns the pseudo-labels, except for places between object and background.

docs/training.md tells what it was measured to reach, and what did not.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.models.attention import BLOCKS, FeatureAttention
from agit_hub.models.backbone import WIDTHS, FrozenBackbone
from agit_hub.training.networks import Batch, TrainingNetworks

# The share of an image's places that an object covers at least.
_TELLING = 0.1
# Of logits' mean square: maps stay open to what the game finds out later.
_SOFTNESS = 0.05
_SOFTNESS_LATER = 0.002
_STRIDE = 4
_LEAST = 1e-4
# Images of each domain that are looked at, with repeats in a smaller one; each keeps 0.7 MB of features.
_IMAGES = 320
# Side of the grid on which the teacher works, and width of the border on it.
_GRID = 32
_BORDER = 2
_TEACHER_WIDTH = 32
_TEACHER_BATCH = 16
_TEACHER_STEPS = 200
_STUDENT_BATCH = 6
_RATE = 1e-3
_DROPOUT = 0.2
_SHARPNESS = 2
_WALK = 2
# Pseudo-labels below are background, above object; in between they say nothing.
_BACKGROUND, _OBJECT = 0.40, 0.55


class _Domain(NamedTuple):
    """The features of a domain's images, at half precision."""

    whole: list[Tensor]
    """Of each of `BLOCKS`, (N, C, h, w)."""
    part: list[Tensor]
    """Of a quarter of each image, enlarged to the image's size."""
    corners: list[tuple[int, int]]
    """Row and column on the grid where each image's quarter begins."""


def domain_label_loss(own: Tensor, other: Tensor, softness: float = _SOFTNESS) -> Tensor:
    """Cross-entropy of maps with what the domains' labels say of them.

    Args:
        own: Logits of images of the network's own domain, (N, places).
        other: Its logits of the other domain's images.
        softness: Weight of the logits' mean square.

    Returns:
        A scalar.
    """
    count = max(1, round(_TELLING * own.shape[1]))
    telling, mistaken = (each.topk(count, dim=1).values for each in (own, other))
    # What is mistaken counts as much as what is telling: else a place that stands out in every image,
    # such as its border, would be worth it.
    labels = F.softplus(-telling).mean() + F.softplus(mistaken).mean() + F.softplus(other).mean()
    return labels + softness * (own.square().mean() + other.square().mean())


def labels_of_maps(own: Tensor, other: Tensor) -> Tensor:
    """`domain_label_loss` of maps, (N, 1, H, W) in [0, 1], as a run makes them anyway."""

    def logits(maps: Tensor) -> Tensor:
        coarse = F.avg_pool2d(maps.float(), _STRIDE)
        return torch.logit(coarse.clamp(_LEAST, 1 - _LEAST)).flatten(1)

    return domain_label_loss(logits(own), logits(other), _SOFTNESS_LATER)


def learn_domain_labels(networks: TrainingNetworks, batches: Iterator[Batch], steps: int) -> float:
    """Train both attention networks on the domains' labels.

    Args:
        networks: Their attention networks must be a `FeatureAttention` each, which starts anew.
        batches: Best of whole images, in which objects are complete and seldom at the border.
        steps: Of the attention networks' training on pseudo-labels.

    Returns:
        The mean of both networks' last losses.
    """
    model = networks.model
    assert model.features is not None
    domains = _look(model.features, batches)
    means = _means(domains)
    places = [_places(domain.whole, means) for domain in domains]
    teachers = _teach(places)
    losses = []
    for attention, domain, seen, teacher in zip(
        (model.attention_s, model.attention_t), domains, places, teachers, strict=True
    ):
        assert isinstance(attention, FeatureAttention)
        labels = _pseudo_labels(teacher, seen)
        losses.append(_learn(attention, domain, labels, steps))
    return sum(losses) / len(losses)


@torch.no_grad()
def _look(features: FrozenBackbone, batches: Iterator[Batch]) -> list[_Domain]:
    """See some images of both domains, each as a whole and a random quarter of it enlarged."""
    found: list[list[tuple[list[Tensor], list[Tensor]]]] = [[], []]
    corners: list[tuple[int, int]] = []
    while len(corners) < _IMAGES:
        batch = next(batches)
        # The same quarter in all of a batch.
        row, column = (int(torch.randint(_GRID // 2 + 1, ())) for _ in range(2))
        corners += [(row, column)] * len(batch.source)
        for domain, image in zip(found, batch, strict=True):
            height, width = image.shape[2:]
            top, left = row * height // _GRID, column * width // _GRID
            part = image[:, :, top : top + height // 2, left : left + width // 2]
            part = F.interpolate(part, size=(height, width), mode="bilinear")
            domain.append((_halved(features(image, BLOCKS)), _halved(features(part, BLOCKS))))
    domains = []
    for pairs in found:
        wholes, parts = [whole for whole, _ in pairs], [part for _, part in pairs]
        domains.append(_Domain(_joined(wholes), _joined(parts), corners))
    return domains


def _halved(features: Sequence[Tensor]) -> list[Tensor]:
    return [each.half() for each in features]


def _joined(batches: Sequence[list[Tensor]]) -> list[Tensor]:
    return [torch.cat(each) for each in zip(*batches, strict=True)]


def _on_grid(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, C, grid, grid), of single precision."""
    if min(x.shape[2:]) > _GRID:
        return F.adaptive_avg_pool2d(x.float(), _GRID)
    return F.interpolate(x.float(), size=(_GRID, _GRID), mode="bilinear")


def _means(domains: Sequence[_Domain]) -> list[Tensor]:
    """Of the deeper blocks' features over both domains, (1, C, 1, 1) each."""
    means = (
        torch.stack([block.mean(dim=(0, 2, 3), dtype=torch.float32) for block in blocks]).mean(
            dim=0
        )
        for blocks in zip(*(domain.whole[1:] for domain in domains), strict=True)
    )
    return [mean[None, :, None, None] for mean in means]


def _places(whole: Sequence[Tensor], means: Sequence[Tensor]) -> Tensor:
    blocks = zip(whole[1:], means, strict=True)
    return torch.cat([(_on_grid(block) - mean).half() for block, mean in blocks], dim=1)


def _teach(places: Sequence[Tensor]) -> list[nn.Sequential]:
    """Train a classifier of single places for each domain, on the domains' labels."""
    device = places[0].device
    teachers = [
        nn.Sequential(
            nn.Conv2d(places[0].shape[1], _TEACHER_WIDTH, 1),
            nn.ReLU(),
            nn.Conv2d(_TEACHER_WIDTH, 1, 1),
        ).to(device)
        for _ in places
    ]
    border = torch.ones(_GRID, _GRID, dtype=torch.bool, device=device)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    optimizer = torch.optim.Adam([p for t in teachers for p in t.parameters()], lr=2 * _RATE)
    for step in range(_TEACHER_STEPS):
        _cool(optimizer, 2 * _RATE, step, _TEACHER_STEPS)
        chosen = [each[_some(len(each), _TEACHER_BATCH)].float() for each in places]
        seen = F.dropout2d(torch.cat(chosen), _DROPOUT)
        loss = seen.new_zeros(())
        for side, teacher in enumerate(teachers):
            maps = torch.split(teacher(seen).flatten(1), [len(each) for each in chosen])
            own, other = maps[side], maps[1 - side]
            loss = loss + domain_label_loss(own, other)
            loss = loss + F.softplus(own[:, border.flatten()]).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return teachers


@torch.no_grad()
def _pseudo_labels(teacher: nn.Module, places: Tensor) -> Tensor:
    """What the teacher says of each image, spread to what is alike: (N, 1, grid, grid) in [0, 1]."""
    return torch.cat([_spread(teacher(few), few) for few in torch.split(places.float(), 4)])


def _spread(logits: Tensor, places: Tensor) -> Tensor:
    """Let logits walk at random between places with like features, and stretch their sigmoid."""
    deep = WIDTHS[BLOCKS[-1]]
    blocks = torch.split(places, [places.shape[1] - deep, deep], dim=1)
    alike = torch.cat([F.normalize(block, dim=1) for block in blocks], dim=1).flatten(2)
    # The mean of both blocks' cosines.
    steps = (alike.transpose(1, 2) @ alike / len(blocks)).clamp_min(0) ** _SHARPNESS
    steps = steps / steps.sum(dim=2, keepdim=True).clamp_min(1e-6)
    spread = logits.flatten(2).transpose(1, 2)
    for _ in range(_WALK):
        spread = steps @ spread
    maps = spread.transpose(1, 2).sigmoid()
    low, high = maps.amin(dim=2, keepdim=True), maps.amax(dim=2, keepdim=True)
    return ((maps - low) / (high - low + 1e-6)).view_as(logits)


def _learn(attention: FeatureAttention, domain: _Domain, labels: Tensor, steps: int) -> float:
    """Train one attention network on pseudo-labels; returns the last loss."""
    half = _GRID // 2
    parts = [
        label[:, row : row + half, column : column + half]
        for label, (row, column) in zip(labels, domain.corners, strict=True)
    ]
    sizes = ((domain.whole, labels), (domain.part, torch.stack(parts)))
    optimizer = torch.optim.Adam(attention.parameters(), lr=_RATE, weight_decay=1e-4)
    loss = torch.zeros(())
    for step in range(steps):
        _cool(optimizer, _RATE, step, steps)
        features, wanted = sizes[step % 2]
        chosen = _some(len(wanted), _STUDENT_BATCH)
        seen = [F.dropout2d(block[chosen].float(), _DROPOUT) for block in features]
        logits = attention.coarse_logits(seen)
        label = F.interpolate(wanted[chosen], size=logits.shape[2:], mode="bilinear")
        loss = _pseudo_label_loss(logits, label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _pseudo_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy at those places of which pseudo-labels say anything."""
    known = ((labels < _BACKGROUND) | (labels > _OBJECT)).float()
    wanted = (labels > _OBJECT).float()
    losses = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)


def _some(count: int, wanted: int) -> Tensor:
    return torch.randperm(count)[:wanted]


def _cool(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    """Let the learning rate fall to 0 in the second half."""
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, 2 * (1 - step / steps))
