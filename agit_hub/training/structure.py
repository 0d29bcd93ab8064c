"""What stays when a coat changes: which places of a picture are alike."""

import torch
import torch.nn.functional as F
from torch import Tensor

from agit_hub.features import PhotographFeatures

_BLOCK = 6


def structure_change(features: PhotographFeatures, before: Tensor, after: Tensor) -> Tensor:
    """How far the likenesses between a picture's places have changed.

    After the spatially-correlative loss (Zheng et al., 2021), on a classifier's features: one pass of
    a small network where a cycle takes a second pass of both generators.

    Args:
        features: Frozen.
        before: A picture, (N, 3, H, W), in [-1, 1].
        after: Its translation.

    Returns:
        A scalar in [0, 2], 0 if nothing has changed.
    """
    with torch.no_grad():
        wanted = _likeness(features, before)
    return F.l1_loss(_likeness(features, after), wanted)


def _likeness(features: PhotographFeatures, image: Tensor) -> Tensor:
    (found,) = features(image, (_BLOCK,))
    places = F.normalize(found.flatten(2), dim=1)
    return places.transpose(1, 2) @ places
