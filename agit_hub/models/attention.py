"""The attention networks: the paper's, one on features of a frozen classifier, and a constant 1."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.config import AttentionDecoder
from agit_hub.models.backbone import WIDTHS, FrozenBackbone
from agit_hub.models.layers import (
    ReflectConv2d,
    ResidualBlock,
    SamePad,
    attention_upsample,
    box_blur,
    initialize_weights,
    instance_norm,
)

# Kernel sizes of the attention decoder's three convolutions. "official" is what the authors' code
# runs: its kernel arguments bind to height and width of one axis only, and come out 1x1.
DECODER_KERNELS: dict[AttentionDecoder, tuple[int, int, int]] = {
    "paper": (3, 3, 7),
    "official": (1, 1, 1),
}
# The backbone's blocks whose features `FeatureAttention` uses.
BLOCKS = (3, 6, 14)
# Factors by which the image is resized; at 2 the finest features are at half the image's size.
_SCALES = (2.0, 1.0, 3.0)


class AttentionNetwork(nn.Module):
    """A_S or A_T: predicts where the object is.

    Args:
        channels: Width of the first layer.
        decoder: Kernel sizes of the decoder: "paper" (3x3, 3x3, 7x7, reflection padded) or
            "official" (1x1, the code as run: maps constant in 4x4 blocks of pixels).
        smoothing: Side of the odd window over which the logits are averaged; 1 disables it.
    """

    def __init__(
        self, channels: int = 32, decoder: AttentionDecoder = "paper", smoothing: int = 1
    ) -> None:
        super().__init__()
        c = channels
        first, second, last = DECODER_KERNELS[decoder]
        self.encoder = nn.Sequential(
            *(ReflectConv2d(3, c, 7, stride=2), instance_norm(c), nn.ReLU()),
            *(SamePad(), nn.Conv2d(c, 2 * c, 3, stride=2), instance_norm(2 * c), nn.ReLU()),
            ResidualBlock(2 * c, "reflect"),
        )
        self.decoder = nn.Sequential(
            *(*attention_upsample(2 * c, 2 * c, first), instance_norm(2 * c), nn.ReLU()),
            *(*attention_upsample(2 * c, c, second), instance_norm(c), nn.ReLU()),
        )
        self.head = ReflectConv2d(c, 1, last)
        self.smoothing = smoothing
        initialize_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """Predict attention: (N, 3, H, W) in [-1, 1] -> (N, 1, H, W) in [0, 1]."""
        # In the image's dtype, float32 even under autocast: in bfloat16 a nearly full map is exactly 1,
        # without a gradient.
        logits: Tensor = self.head(self.decoder(self.encoder(image))).to(image.dtype)
        return torch.sigmoid(box_blur(logits, self.smoothing))


class FullAttention(nn.Module):
    """Attention that is 1 everywhere and has no weights: it turns the method into CycleGAN."""

    def forward(self, image: Tensor) -> Tensor:
        """Return ones of (N, 1, H, W) for (N, 3, H, W)."""
        return image.new_ones((image.shape[0], 1, *image.shape[2:]))


class FeatureAttention(nn.Module):
    """A_S or A_T on frozen features at three depths (not in the paper).

    Each depth is projected to the same width; their sum, at the finest one's size, goes through two
    convolutions.

    Args:
        features: Shared with the other attention network; not a submodule of this one.
        channels: Width of the projections.
        smoothing: Side of the odd window over which the logits are averaged; 1 disables it.
        levels: Number of image sizes, 1 to 3, over which logits are averaged outside training.
    """

    def __init__(
        self, features: FrozenBackbone, channels: int = 32, smoothing: int = 1, levels: int = 1
    ) -> None:
        super().__init__()
        # In a tuple, so that it is not a submodule: the model holds it once, for both networks.
        self._features = (features,)
        self.projections = nn.ModuleList(nn.Conv2d(WIDTHS[n], channels, 1) for n in BLOCKS)
        self.hidden = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Conv2d(channels, 1, 3, padding=1)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)
        self.smoothing = smoothing
        self.levels = levels

    def forward(self, image: Tensor) -> Tensor:
        """Predict attention: (N, 3, H, W) in [-1, 1] -> (N, 1, H, W) in [0, 1]."""
        # Training crops already vary in scale, and averaging would damp attention there.
        scales = _SCALES[: 1 if self.training else self.levels]
        logits = torch.stack([self._logits(image, scale) for scale in scales]).mean(dim=0)
        return torch.sigmoid(box_blur(logits, self.smoothing))

    def coarse_logits(self, features: Sequence[Tensor]) -> Tensor:
        """Compute logits at the size of the finest of the features from `BLOCKS`."""
        size = features[0].shape[2:]
        depths = [
            # Features are float32 even where `model.half()` has changed the weights.
            F.interpolate(project(each.to(self.hidden.weight.dtype)), size=size, mode="bilinear")
            for project, each in zip(self.projections, features, strict=True)
        ]
        hidden = F.relu(self.hidden(F.relu(torch.stack(depths).sum(dim=0))))
        logits: Tensor = self.head(hidden).float()
        return logits

    def _logits(self, image: Tensor, scale: float) -> Tensor:
        scaled = F.interpolate(image, scale_factor=scale, mode="bilinear") if scale != 1 else image
        coarse = self.coarse_logits(self._features[0](scaled, BLOCKS))
        return F.interpolate(coarse, size=image.shape[2:], mode="bilinear")
