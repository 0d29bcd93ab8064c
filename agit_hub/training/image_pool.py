"""The image pool: translated pictures of earlier steps, each with the map that produced it."""

from typing import Any

import torch
from torch import Tensor

from agit_hub.training.device import indices_on


class ImagePool:
    """A history of translated pictures for a discriminator (Shrivastava et al., 2017).

    The authors' pool holds pictures *with* their attention maps, so that after the switch an old
    fake is masked by the map that made it. Until the pool is full each picture is stored and
    returned; afterwards each is, with even odds, swapped for a stored one.

    The swaps are drawn on the CPU and carried out by a few indexed copies, however large the batch:
    a GPU is neither waited for nor given a kernel per picture.

    Args:
        capacity: How many pictures are kept; 0 hands every picture straight through.
        seed: Of the pool's own random stream; one pool per rank.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self._random = torch.Generator().manual_seed(seed)
        self._filled = 0
        self._stored: tuple[Tensor, Tensor] | None = None
        """Pictures and maps, (capacity, 3, H, W) and (capacity, 1, H, W); the first `_filled` count."""

    def __len__(self) -> int:
        return self._filled

    def query(self, images: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange a batch of fakes and their maps for one of the same size, old and new mixed.

        Args:
            images: Translated pictures, (N, 3, H, W); detached here.
            attention: The maps that produced them, (N, 1, H, W).

        Returns:
            Pictures and maps that belong together, shaped like the arguments.
        """
        given = images.detach(), attention.detach()
        if self.capacity == 0:
            return given
        stored = self._stored = self._stored or _room(self.capacity, *given)
        returned, written = self._draw_swaps(len(images))
        count = len(images)
        own = [place if place < count else i for i, place in enumerate(returned)]
        old = [(i, place - count) for i, place in enumerate(returned) if place >= count]
        lists = own, [i for i, _ in old], [slot for _, slot in old], [*written], [*written.values()]
        own_at, old_at, old_slots, slots, givers = indices_on(images.device, *lists)
        handed = []
        for new, kept in zip(given, stored, strict=True):
            result = new.index_select(0, own_at)
            if old:
                result.index_copy_(0, old_at, kept.index_select(0, old_slots).to(result.dtype))
            if written:
                kept.index_copy_(0, slots, new.index_select(0, givers).to(kept.dtype))
            handed.append(result)
        return handed[0], handed[1]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Stored pictures with their maps, drawn at random with repeats; nothing is exchanged.

        Args:
            count: How many; the pool holds at least one.
        """
        assert self._stored is not None
        images, attention = self._stored
        numbers = torch.randint(len(self), (count,), generator=self._random).tolist()
        (places,) = indices_on(images.device, numbers)
        return images.index_select(0, places), attention.index_select(0, places)

    def _draw_swaps(self, count: int) -> tuple[list[int], dict[int, int]]:
        """What becomes of a batch, one picture after the other.

        Returns:
            For each picture which one comes back: number i of the batch as i, a stored one as `count`
            and its slot. And for each slot that is written the number in the batch that stays there.
        """
        returned: list[int] = []
        written: dict[int, int] = {}
        for number in range(count):
            if self._filled < self.capacity:
                written[self._filled] = number
                self._filled += 1
                returned.append(number)
                continue
            chance = torch.rand((), generator=self._random).item()
            slot = int(torch.randint(self.capacity, (), generator=self._random).item())
            if chance <= 0.5:
                returned.append(number)
            else:
                returned.append(written.get(slot, count + slot))
                written[slot] = number
        return returned, written

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on identically."""
        images, attention = (
            (None, None)
            if self._stored is None
            else (kept[: self._filled].clone() for kept in self._stored)
        )
        return {"images": images, "attention": attention, "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned, on the given device."""
        self._filled, self._stored = 0, None
        if state["images"] is not None:
            kept = state["images"].to(device), state["attention"].to(device)
            self._filled = len(kept[0])
            self._stored = _room(self.capacity, *kept)
            for room, values in zip(self._stored, kept, strict=True):
                room[: self._filled] = values
        self._random.set_state(state["random"])


def _room(capacity: int, images: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
    return images.new_empty(capacity, *images.shape[1:]), attention.new_empty(
        capacity, *attention.shape[1:]
    )
