"""Named protocols: everything that a distance between two sets of images depends on.

Published values for the same images differ up to fourfold between protocols.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from agit_hub.config import suggest
from agit_hub.errors import EvaluationError

Extract = Callable[[Tensor], Tensor]
"""(N, 3, side, side) pixels in 0 to 255 -> (N, d) features. Pixels are uint8 with `resize` pillow, and
float32 otherwise."""
Resize = Literal["pillow", "pillow-float", "torch-bilinear", "tensorflow-bilinear"]
"""`pillow`: bicubic, antialiased, rounded to bytes. `pillow-float`: the same on float channels without
rounding, as in clean-fid. `torch-bilinear`: without antialiasing, as in pytorch-fid.
`tensorflow-bilinear`: TensorFlow 1's bilinear without antialiasing, whose grid starts at the corner, as
in the original FID code."""


@dataclass(frozen=True)
class Protocol:
    """How KID and FID are measured."""

    name: str
    features: str | Extract
    """`lite0`, `inception`, `torchvision:NAME`, `timm:NAME`, or a custom function."""
    resize: Resize = "pillow"
    """How images are resized to the extractor's input."""
    side: int | None = None
    """Input side in pixels; None takes the extractor's own. Required for a custom function."""
    compared_with: Literal["target", "both"] = "target"
    """Compare translations with target images, or average that with the distance to source images."""
    subset_size: int = 100
    """Images in each of KID's subsets, limited by the smaller set."""
    subsets: int = 100
    """Number of subsets, each drawn without repetition."""
    bootstraps: int = 500
    """Number of bootstrap samples for the standard error."""
    seed: int = 0
    """Seed of subsets and bootstrap."""

    def __post_init__(self) -> None:
        for name, least in (("subset_size", 2), ("subsets", 1), ("bootstraps", 2)):
            if getattr(self, name) < least:
                raise EvaluationError(
                    f"{name} is {getattr(self, name)}; it must be {least} or more."
                )
        if self.resize not in get_args(Resize):
            raise EvaluationError(
                f"resize is {self.resize!r}; it must be one of {', '.join(get_args(Resize))}."
            )
        if callable(self.features) and self.side is None:
            raise EvaluationError("side is missing: set the input side of your features in pixels.")

    def __str__(self) -> str:
        features = self.features if isinstance(self.features, str) else "custom features"
        size = f" at {self.side} pixels" if self.side else ""
        against = "" if self.compared_with == "target" else ", mean of against target and source"
        return f"{self.name}: {features}{size}, {self.resize} resizing{against}"


# All of these weights come in Python packages: none needs a download at run time.
_NAMED = (
    Protocol("lite0", "lite0"),
    # Resizes as pytorch-fid, which most image-to-image papers used.
    Protocol("inception", "inception", resize="torch-bilinear"),
    # Resizes as clean-fid, which more recent papers use.
    Protocol("inception-clean", "inception", resize="pillow-float"),
    # Resizes as the original FID code and torch-fidelity.
    Protocol("inception-legacy", "inception", resize="tensorflow-bilinear"),
    # As in some tables of this field, U-GAT-IT's among them.
    Protocol("inception-both", "inception", resize="tensorflow-bilinear", compared_with="both"),
)
PROTOCOLS = {protocol.name: protocol for protocol in _NAMED}


def find_protocol(name: str) -> Protocol:
    """Return a named protocol, or one for any torchvision or timm network, as `torchvision:resnet50`.

    Raises:
        EvaluationError: If the name is unknown.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if name.startswith(("torchvision:", "timm:")):
        return Protocol(name, name)
    raise EvaluationError(
        f"There is no protocol {name!r}; choose {', '.join(PROTOCOLS)}, torchvision:NAME or "
        f"timm:NAME.{suggest(name, [*PROTOCOLS])}"
    )
