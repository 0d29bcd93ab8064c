"""The six networks of the method, and the ways through them."""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from agit_hub.models.agit import AGITModel, Translation

Direction = Literal["st", "ts"]


class Batch(NamedTuple):
    """Unpaired pictures, each (N, 3, H, W) in [-1, 1]."""

    source: Tensor
    target: Tensor


class Cycle(NamedTuple):
    """One direction of a forward pass, there and back."""

    there: Translation
    """For s: s', s_a and F_ST(s)."""
    back: Translation | None
    """For s: s'', A_T(s') and F_TS(s'); None where nobody asks."""


class TrainingNetworks(nn.Module):
    """The six networks: the published model and the two discriminators.

    Args:
        model: Generators and attention networks.
        discriminator: Makes a discriminator.
    """

    def __init__(self, model: AGITModel, discriminator: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.model = model
        self.discriminator_s = discriminator()
        self.discriminator_t = discriminator()

    def cycle(self, direction: Direction, batch: Batch, back: bool = True) -> Cycle:
        """Go s -> s' -> s'', or t -> t' -> t''; without `back` no further than s' or t'."""
        if direction == "st":
            there = self.model.source_to_target(batch.source)
            return Cycle(there, self.model.target_to_source(there.image) if back else None)
        there = self.model.target_to_source(batch.target)
        return Cycle(there, self.model.source_to_target(there.image) if back else None)

    def compile_each(self, mode: str = "default") -> None:
        """Let torch.compile write kernels for each of the six; weights and their names stay.

        Discriminators see one batch and then two at once: a graph for each, not one for any size.
        """
        for direction in get_args(Direction):
            for network in (self.generator, self.attention, self.discriminator):
                network(direction).compile(mode=mode, dynamic=False)

    def generator(self, direction: Direction) -> nn.Module:
        """F_ST or F_TS."""
        return self.model.generator_st if direction == "st" else self.model.generator_ts

    def attention(self, direction: Direction) -> nn.Module:
        """The attention network of the domain that is left: A_S or A_T."""
        return self.model.attention_s if direction == "st" else self.model.attention_t

    def discriminator(self, direction: Direction) -> nn.Module:
        """The judge of the domain that is reached: D_T or D_S."""
        return self.discriminator_t if direction == "st" else self.discriminator_s
