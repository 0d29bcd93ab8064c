"""Where the domains differ, learnt from which picture is of which domain and from nothing else.

Attention on features is trained for some hundred steps before the run's own first step: the most telling
places of a picture of the network's own domain are to be 1, places of the other domain's pictures are to
be 0 (multiple-instance learning). No mask is needed.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from agit_hub.feature_attention import BLOCKS, FeatureAttention
from agit_hub.training.networks import Batch, Networks

# The share of a picture's places that an object covers at least.
_TELLING = 0.1
# Of logits' mean square: maps stay open to what the game finds out later.
_SOFTNESS = 0.05
_SOFTNESS_LATER = 0.002
_STRIDE = 4
_LEAST = 1e-4
_SCALE = 2.0
_RATE = 1e-3


def domain_label_loss(own: Tensor, other: Tensor, softness: float = _SOFTNESS) -> Tensor:
    """Cross-entropy of maps with what the domains' labels say of them.

    Args:
        own: Logits of pictures of the network's own domain, (N, places).
        other: Its logits of the other domain's pictures.
        softness: Weight of the logits' mean square.

    Returns:
        A scalar.
    """
    count = max(1, round(_TELLING * own.shape[1]))
    telling, mistaken = (each.topk(count, dim=1).values for each in (own, other))
    # What is mistaken counts as much as what is telling: else a place that stands out in every picture,
    # such as its border, would be worth it.
    labels = F.softplus(-telling).mean() + F.softplus(mistaken).mean() + F.softplus(other).mean()
    return labels + softness * (own.square().mean() + other.square().mean())


def labels_of_maps(own: Tensor, other: Tensor) -> Tensor:
    """`domain_label_loss` of maps, (N, 1, H, W) in [0, 1], as a run makes them anyway."""

    def logits(maps: Tensor) -> Tensor:
        coarse = F.avg_pool2d(maps.float(), _STRIDE)
        return torch.logit(coarse.clamp(_LEAST, 1 - _LEAST)).flatten(1)

    return domain_label_loss(logits(own), logits(other), _SOFTNESS_LATER)


def learn_domain_labels(networks: Networks, batches: Iterator[Batch], steps: int) -> float:
    """Train both attention networks on the domains' labels; returns the last step's loss."""
    model = networks.model
    attentions = (model.attention_s, model.attention_t)
    assert model.features is not None
    parameters = [p for attention in attentions for p in attention.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=_RATE)
    loss = torch.zeros(())
    for step in range(steps):
        batch = next(batches)
        count = len(batch.source)
        with torch.no_grad():
            pictures = F.interpolate(torch.cat(batch), scale_factor=_SCALE, mode="bilinear")
            features = model.features(pictures, BLOCKS)
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, 2 * (1 - step / steps))
        of_s, of_t = (_coarse(attention, features) for attention in attentions)
        loss = domain_label_loss(of_s[:count], of_s[count:])
        loss = loss + domain_label_loss(of_t[count:], of_t[:count])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _coarse(attention: object, features: list[Tensor]) -> Tensor:
    assert isinstance(attention, FeatureAttention)
    return attention.coarse_logits(features).flatten(1)
