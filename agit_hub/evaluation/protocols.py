"""Protocols: everything that a distance between two sets of pictures depends on, under a name.

Published figures for the same pictures differ fourfold by protocol alone, so a figure without one
says nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from agit_hub.config import suggest
from agit_hub.errors import EvaluationError
from agit_hub.evaluation.resizing import Resize

Extract = Callable[[Tensor], Tensor]
"""(N, 3, side, side) pixels in 0 to 255 -> (N, d) features. Pixels are uint8 with `resize` pillow, and
float32 otherwise."""


@dataclass(frozen=True)
class Protocol:
    """How KID and FID are measured."""

    name: str
    """What is written beside the figures."""
    features: str | Extract
    """`lite0`, `inception`, `torchvision:NAME`, `timm:NAME`, or a function of one's own."""
    resize: Resize = "pillow"
    """How images are resized to the extractor's side: `pillow`, `pillow-float` (clean-fid),
    `torch-bilinear` (pytorch-fid) or `tensorflow-bilinear` (the first FID code)."""
    side: int | None = None
    """Pixels a side; None takes the extractor's own, and a function of one's own must say."""
    reference: Literal["target", "both"] = "target"
    """Translations against target pictures, or the mean of that and of the same against source ones."""
    subset_size: int = 100
    """Pictures in each of KID's subsets; at most the smaller set is taken."""
    subsets: int = 100
    """How many subsets are drawn, each without repeats."""
    bootstraps: int = 500
    """How often pictures are drawn anew for the standard error."""
    seed: int = 0
    """Of subsets and bootstrap."""

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
            raise EvaluationError("side is missing: the pixels a side that your features take.")

    def __str__(self) -> str:
        features = self.features if isinstance(self.features, str) else "features of one's own"
        size = f" at {self.side} pixels" if self.side else ""
        reference = "" if self.reference == "target" else ", mean of against target and source"
        return f"{self.name}: {features}{size}, {self.resize} resizing{reference}"


# The weights of all of these come in Python packages: none of them needs a network.
_NAMED = (
    Protocol("lite0", "lite0"),
    # As pytorch-fid resizes, which most image-to-image papers measured with.
    Protocol("inception", "inception", resize="torch-bilinear"),
    # As clean-fid resizes, which is what more recent papers mean by KID and FID.
    Protocol("inception-clean", "inception", resize="pillow-float"),
    # As the first FID code and torch-fidelity resize.
    Protocol("inception-legacy", "inception", resize="tensorflow-bilinear"),
    # As some tables of this field have it, U-GAT-IT's among them.
    Protocol("inception-both", "inception", resize="tensorflow-bilinear", reference="both"),
)
PROTOCOLS = {protocol.name: protocol for protocol in _NAMED}


def find_protocol(name: str) -> Protocol:
    """A named protocol, or one of any torchvision or timm network, as `torchvision:resnet50`.

    Raises:
        EvaluationError: If there is none of that name.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if name.startswith(("torchvision:", "timm:")):
        return Protocol(name, name)
    raise EvaluationError(
        f"There is no protocol {name!r}; there are {', '.join(PROTOCOLS)}, and torchvision:NAME and "
        f"timm:NAME.{suggest(name, [*PROTOCOLS])}"
    )
