"""Protocols: everything that a distance between two sets of pictures depends on, under a name.

Published figures for the same pictures differ fourfold by protocol alone, so a figure without one
says nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from agit_hub.config import suggest
from agit_hub.evaluation.errors import EvaluationError

Extract = Callable[[Tensor], Tensor]
"""(N, 3, H, W) uint8 -> (N, d) features."""


@dataclass(frozen=True)
class Protocol:
    """How KID and FID are measured."""

    name: str
    """What is written beside the figures."""
    features: str | Extract
    """`lite0`, `inception`, `torchvision:NAME`, `timm:NAME`, or a function of one's own."""
    resize: Literal["pillow", "tensorflow"] = "pillow"
    """How pictures come to the extractor's size: `pillow` bicubic and antialiased, or `tensorflow`,
    the first FID code's bilinear without antialiasing (of `inception` alone)."""
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
        if self.resize == "tensorflow" and self.features != "inception":
            raise EvaluationError("resize tensorflow belongs to the features inception alone.")
        if callable(self.features) and self.side is None:
            raise EvaluationError("side is missing: the pixels a side that your features take.")

    def __str__(self) -> str:
        features = self.features if isinstance(self.features, str) else "features of one's own"
        size = f" at {self.side} pixels" if self.side else ""
        reference = "" if self.reference == "target" else ", mean of against target and source"
        return f"{self.name}: {features}{size}, {self.resize} resizing{reference}"


_NAMED = (
    # Its weights come in a Python package, so that it runs with no network.
    Protocol("lite0", "lite0"),
    # What most recent papers mean by KID and FID: clean-fid's resizing of Inception-v3's input.
    Protocol("inception", "inception"),
    # What older papers and pytorch-fid measured.
    Protocol("inception-legacy", "inception", resize="tensorflow"),
    # As some tables of this field have it, U-GAT-IT's among them.
    Protocol("inception-both", "inception", resize="tensorflow", reference="both"),
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
