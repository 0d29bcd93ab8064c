"""Warm up attention on the domain labels: weakly supervised, without masks.

Before the first step of the run the attention networks are trained in three stages:

1. A small classifier of single grid cells, the teacher, learns from the domain labels (multiple-instance
   learning): the targets are 1 for the highest-scoring cells of an image of its domain, and 0 for those
   of the other domain's images and for the border, where objects are rare.
2. Its predictions are propagated to cells with similar features (a random walk) and normalised to
   [0, 1]: a pseudo-label for the whole object instead of its most discriminative part.
   Where an image has a mask, the teacher learns it too, and the mask is the label.
3. Attention learns the pseudo-labels of both domains, except for cells between object and background:
   what is translated looks alike in both, and where one domain's labels are poor the other's help. Then
   its maps are sharpened, because faint attention leaves a veil of translation on the background. Both
   networks start from these weights.

docs/research/recipe.md describes the results, and alternatives that failed.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.data.loader import Batch
from agit_hub.models.attention import BLOCKS, FeatureAttention
from agit_hub.models.backbone import WIDTHS, FrozenBackbone
from agit_hub.training.setup import TrainingNetworks

# Minimum fraction of the cells that an object covers.
_TOP_FRACTION = 0.1
# Weight of the mean square of the logits, which keeps them from saturating.
_LOGIT_DECAY = 0.05
# Images of each domain, with repeats in a smaller one; the features of each take 0.7 MB.
_IMAGES = 320
# Side of the teacher's grid in cells, and width of its border.
_GRID = 32
_BORDER = 2
_TEACHER_WIDTH = 32
_TEACHER_BATCH = 16
_TEACHER_STEPS = 200
_STUDENT_BATCH = 6
_LEARNING_RATE = 1e-3
_DROPOUT = 0.2
_AFFINITY_POWER = 2
_WALK_STEPS = 2
# Pseudo-labels below are background, and above object; those in between are ignored.
_BACKGROUND, _OBJECT = 0.36, 0.51
# Factor of the logits after training, and what is taken off them: where a cell is doubtful, translated
# background is the error that is seen.
_SHARPENING = 3.0
_DOUBT = 1.0


class _DomainFeatures(NamedTuple):
    """Features of the images of a domain, in half precision."""

    whole: list[Tensor]
    """For each of `BLOCKS`, (N, C, h, w)."""
    crop: list[Tensor]
    """The same for a crop of half the side of each image, enlarged to the image's size."""
    corners: list[tuple[int, int]]
    """Row and column of the top left corner of each crop on the grid."""
    masks: Tensor | None
    """(N, 1, grid, grid) in [0, 1], negative for images without a mask; None if none has one."""


def domain_label_loss(own: Tensor, other: Tensor, logit_decay: float = _LOGIT_DECAY) -> Tensor:
    """Compute the cross-entropy between maps and domain labels, as a scalar.

    Args:
        own: Logits for images of the classifier's domain, (N, cells).
        other: Its logits for images of the other domain.
        logit_decay: Weight of the logits' mean square.
    """
    count = max(1, round(_TOP_FRACTION * own.shape[1]))
    positive, negative = (each.topk(count, dim=1).values for each in (own, other))
    # False positives have the same weight as true ones: otherwise cells that stand out in every image,
    # such as the border, would be selected.
    labels = F.softplus(-positive).mean() + F.softplus(negative).mean() + F.softplus(other).mean()
    return labels + logit_decay * (own.square().mean() + other.square().mean())


def learn_domain_labels(
    networks: TrainingNetworks, batches: Iterator[Batch], steps: int, masked_batches: int = 0
) -> float:
    """Train attention on the domain labels, for both networks alike, and return the last loss.

    Args:
        networks: Networks whose attention networks are newly created `FeatureAttention` modules.
        batches: Whole images, in which objects are complete and rarely at the border.
        steps: Training steps on pseudo-labels for each domain.
        masked_batches: Further batches that are searched for images with masks.
    """
    model = networks.model
    assert model.features is not None
    domains = _extract(model.features, batches, masked_batches)
    means = _means(domains)
    cells = [_cells(domain.whole, means) for domain in domains]
    teachers = _train_teachers(cells, [domain.masks for domain in domains])
    labels = []
    for domain, own, teacher in zip(domains, cells, teachers, strict=True):
        found = _pseudo_labels(teacher, own)
        if domain.masks is not None:
            found = torch.where(domain.masks < 0, found, domain.masks)
        labels.append(found)
    first, second = model.attention_s, model.attention_t
    assert isinstance(first, FeatureAttention)
    loss = _train_attention(first, _join_domains(domains), torch.cat(labels), len(domains) * steps)
    second.load_state_dict(first.state_dict())
    return loss


@torch.no_grad()
def _extract(
    features: FrozenBackbone, batches: Iterator[Batch], masked_batches: int
) -> list[_DomainFeatures]:
    """Extract the features of images of both domains, and of a random crop of each."""
    collectors = [_Collector(features) for _ in "st"]
    while len(collectors[0].corners) < _IMAGES:
        batch = next(batches)
        # The same crop position for the whole batch.
        corner = _random_corner()
        collectors[0].add(batch.source, batch.source_mask, corner)
        collectors[1].add(batch.target, batch.target_mask, corner)
    for batch in islice(batches, masked_batches):
        for collector, image, mask in zip(
            collectors, batch[:2], (batch.source_mask, batch.target_mask), strict=True
        ):
            if mask is None or len(collector.corners) >= 2 * _IMAGES:
                continue
            has_mask = (mask >= 0).flatten(1).all(dim=1)
            if has_mask.any():
                collector.add(image[has_mask], mask[has_mask], _random_corner())
    return [collector.features() for collector in collectors]


def _random_corner() -> tuple[int, int]:
    row, column = (int(torch.randint(_GRID // 2 + 1, ())) for _ in range(2))
    return row, column


class _Collector:
    """Collects the features of a domain, a batch at a time."""

    def __init__(self, features: FrozenBackbone) -> None:
        self._features = features
        self._whole: list[list[Tensor]] = []
        self._crop: list[list[Tensor]] = []
        self._masks: list[Tensor] = []
        self.corners: list[tuple[int, int]] = []

    def add(self, image: Tensor, mask: Tensor | None, corner: tuple[int, int]) -> None:
        (row, column), (height, width) = corner, image.shape[2:]
        self.corners += [corner] * len(image)
        top, left = row * height // _GRID, column * width // _GRID
        crop = image[:, :, top : top + height // 2, left : left + width // 2]
        crop = F.interpolate(crop, size=(height, width), mode="bilinear")
        self._whole.append([each.half() for each in self._features(image, BLOCKS)])
        self._crop.append([each.half() for each in self._features(crop, BLOCKS)])
        if mask is not None:
            self._masks.append(_to_grid(mask))

    def features(self) -> _DomainFeatures:
        whole, crop = _join_batches(self._whole), _join_batches(self._crop)
        masks = torch.cat(self._masks) if self._masks else None
        return _DomainFeatures(whole, crop, self.corners, masks)


def _join_batches(batches: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Concatenate the batches' features of each block."""
    return [torch.cat(blocks) for blocks in zip(*batches, strict=True)]


def _join_domains(domains: Sequence[_DomainFeatures]) -> _DomainFeatures:
    """Concatenate the domains' images; masks are left out, for they are labels by now."""
    whole = _join_batches([domain.whole for domain in domains])
    crop = _join_batches([domain.crop for domain in domains])
    return _DomainFeatures(whole, crop, [c for domain in domains for c in domain.corners], None)


def _to_grid(x: Tensor) -> Tensor:
    """Resize (N, C, h, w) to (N, C, grid, grid), in single precision."""
    if min(x.shape[2:]) > _GRID:
        return F.adaptive_avg_pool2d(x.float(), _GRID)
    return F.interpolate(x.float(), size=(_GRID, _GRID), mode="bilinear")


def _means(domains: Sequence[_DomainFeatures]) -> list[Tensor]:
    """Compute the mean features of the deeper blocks over both domains, (1, C, 1, 1) each."""
    means = (
        torch.stack([block.mean(dim=(0, 2, 3), dtype=torch.float32) for block in blocks]).mean(
            dim=0
        )
        for blocks in zip(*(domain.whole[1:] for domain in domains), strict=True)
    )
    return [mean[None, :, None, None] for mean in means]


def _cells(whole: Sequence[Tensor], means: Sequence[Tensor]) -> Tensor:
    """Return the centred features of the deeper blocks on the grid, (N, C, grid, grid)."""
    blocks = zip(whole[1:], means, strict=True)
    return torch.cat([(_to_grid(block) - mean).half() for block, mean in blocks], dim=1)


def _train_teachers(cells: Sequence[Tensor], masks: Sequence[Tensor | None]) -> list[nn.Sequential]:
    """Train a classifier of single cells for each domain, on the domain labels and the masks."""
    device = cells[0].device
    teachers = [
        nn.Sequential(
            nn.Conv2d(cells[0].shape[1], _TEACHER_WIDTH, 1),
            nn.ReLU(),
            nn.Conv2d(_TEACHER_WIDTH, 1, 1),
        ).to(device)
        for _ in cells
    ]
    border = torch.ones(_GRID, _GRID, dtype=torch.bool, device=device)
    border[_BORDER:-_BORDER, _BORDER:-_BORDER] = False
    optimizer = torch.optim.Adam(
        [p for t in teachers for p in t.parameters()], lr=2 * _LEARNING_RATE
    )
    for step in range(_TEACHER_STEPS):
        _set_learning_rate(optimizer, 2 * _LEARNING_RATE, step, _TEACHER_STEPS)
        places = [_sample(len(each), _TEACHER_BATCH) for each in cells]
        chosen = [each[place].float() for each, place in zip(cells, places, strict=True)]
        inputs = F.dropout2d(torch.cat(chosen), _DROPOUT)
        loss = inputs.new_zeros(())
        for side, teacher in enumerate(teachers):
            maps = torch.split(teacher(inputs).flatten(1), [len(each) for each in chosen])
            own, other = maps[side], maps[1 - side]
            loss = loss + domain_label_loss(own, other)
            loss = loss + F.softplus(own[:, border.flatten()]).mean()
            mask = masks[side]
            if mask is not None:
                loss = loss + _mask_loss(own, mask[places[side]].flatten(1))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return teachers


def _mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Compute the cross-entropy with the masks of the images that have one, (N, cells) each."""
    known = (masks >= 0).float()
    losses = F.binary_cross_entropy_with_logits(logits, masks.clamp_min(0), reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)


@torch.no_grad()
def _pseudo_labels(teacher: nn.Module, cells: Tensor) -> Tensor:
    """Propagate the teacher's predictions to similar cells: (N, 1, grid, grid) in [0, 1]."""
    batches = torch.split(cells.float(), 4)
    return torch.cat([_propagate(teacher(batch), batch) for batch in batches])


def _propagate(logits: Tensor, cells: Tensor) -> Tensor:
    """Propagate logits by a random walk between similar cells, and normalise their sigmoid."""
    deep = WIDTHS[BLOCKS[-1]]
    blocks = torch.split(cells, [cells.shape[1] - deep, deep], dim=1)
    unit = torch.cat([F.normalize(block, dim=1) for block in blocks], dim=1).flatten(2)
    # Mean cosine similarity of both blocks.
    walk = (unit.transpose(1, 2) @ unit / len(blocks)).clamp_min(0) ** _AFFINITY_POWER
    walk = walk / walk.sum(dim=2, keepdim=True).clamp_min(1e-6)
    propagated = logits.flatten(2).transpose(1, 2)
    for _ in range(_WALK_STEPS):
        propagated = walk @ propagated
    maps = propagated.transpose(1, 2).sigmoid()
    low, high = maps.amin(dim=2, keepdim=True), maps.amax(dim=2, keepdim=True)
    return ((maps - low) / (high - low + 1e-6)).view_as(logits)


def _train_attention(
    attention: FeatureAttention, domain: _DomainFeatures, labels: Tensor, steps: int
) -> float:
    """Train an attention network on pseudo-labels, and return the last loss."""
    half = _GRID // 2
    crops = [
        label[:, row : row + half, column : column + half]
        for label, (row, column) in zip(labels, domain.corners, strict=True)
    ]
    inputs = ((domain.whole, labels), (domain.crop, torch.stack(crops)))
    optimizer = torch.optim.Adam(attention.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4)
    loss = torch.zeros(())
    for step in range(steps):
        _set_learning_rate(optimizer, _LEARNING_RATE, step, steps)
        features, targets = inputs[step % 2]
        chosen = _sample(len(targets), _STUDENT_BATCH)
        blocks = [F.dropout2d(block[chosen].float(), _DROPOUT) for block in features]
        logits = attention.coarse_logits(blocks)
        label = F.interpolate(targets[chosen], size=logits.shape[2:], mode="bilinear")
        loss = _pseudo_label_loss(logits, label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for parameter in attention.head.parameters():
            parameter.mul_(_SHARPENING)
        assert attention.head.bias is not None
        attention.head.bias.sub_(_DOUBT)
    return float(loss.detach())


def _pseudo_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross-entropy at the cells that are clearly object or background."""
    known = ((labels < _BACKGROUND) | (labels > _OBJECT)).float()
    targets = (labels > _OBJECT).float()
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (losses * known).sum() / known.sum().clamp_min(1)


def _sample(count: int, size: int) -> Tensor:
    return torch.randperm(count)[:size]


def _set_learning_rate(
    optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int
) -> None:
    """Decay the learning rate linearly to 0 in the second half."""
    for group in optimizer.param_groups:
        group["lr"] = rate * min(1.0, 2 * (1 - step / steps))
