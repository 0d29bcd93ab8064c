"""Image pool: translated images of earlier steps, each with its attention map."""

from typing import Any

import torch
from torch import Tensor

from agit_hub.training.distributed import indices_on


class ImagePool:
    """A history of translated images for a discriminator (Shrivastava et al., 2017).

    As in the authors' code, images are stored with their attention maps, so that after the switch an
    old fake is masked by its own map. Until the pool is full each image is stored and returned;
    afterwards each is swapped for a stored one with probability 0.5.

    Swaps are drawn on the CPU and executed by a few indexed copies for the whole batch, without
    synchronising with a GPU.

    Args:
        capacity: Maximum number of images; 0 returns every image unchanged.
        seed: Of the pool's own random generator, which must differ between ranks.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self._random = torch.Generator().manual_seed(seed)
        self._filled = 0
        self._stored: tuple[Tensor, Tensor] | None = None
        """Images and maps, (capacity, 3, H, W) and (capacity, 1, H, W); the first `_filled` are valid."""

    def __len__(self) -> int:
        return self._filled

    def query(self, images: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Store a batch of fakes with their maps, and return a batch of new and stored ones.

        Args:
            images: Translated images, (N, 3, H, W); detached here.
            attention: Their maps, (N, 1, H, W).

        Returns:
            Images with their maps, shaped like the arguments.
        """
        given = images.detach(), attention.detach()
        if self.capacity == 0:
            return given
        stored = self._stored = self._stored or _allocate(self.capacity, *given)
        count = len(images)
        returned, written = self._draw_swaps(count)
        own = [place if place < count else i for i, place in enumerate(returned)]
        old = [(i, place - count) for i, place in enumerate(returned) if place >= count]
        lists = own, [i for i, _ in old], [slot for _, slot in old], [*written], [*written.values()]
        own_at, old_at, old_slots, slots, new_at = indices_on(images.device, *lists)
        results = []
        for new, kept in zip(given, stored, strict=True):
            result = new.index_select(0, own_at)
            if old:
                result.index_copy_(0, old_at, kept.index_select(0, old_slots).to(result.dtype))
            if written:
                kept.index_copy_(0, slots, new.index_select(0, new_at).to(kept.dtype))
            results.append(result)
        return results[0], results[1]

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Sample `count` stored images with their maps, with replacement; the pool must not be empty."""
        assert self._stored is not None
        images, attention = self._stored
        numbers = torch.randint(len(self), (count,), generator=self._random).tolist()
        (places,) = indices_on(images.device, numbers)
        return images.index_select(0, places), attention.index_select(0, places)

    def _draw_swaps(self, count: int) -> tuple[list[int], dict[int, int]]:
        """Draw which images of a batch are returned and stored, one image after the other.

        Returns:
            For each image the one to return: i for number i of the batch, `count` + slot for a stored
            one. And for each slot to write, the number in the batch to store there.
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
        """Return the state to save in a checkpoint."""
        images, attention = (
            (None, None)
            if self._stored is None
            else (kept[: self._filled].clone() for kept in self._stored)
        )
        return {"images": images, "attention": attention, "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore the state of a checkpoint on a device."""
        self._filled, self._stored = 0, None
        if state["images"] is not None:
            kept = state["images"].to(device), state["attention"].to(device)
            self._filled = len(kept[0])
            self._stored = _allocate(self.capacity, *kept)
            for buffer, values in zip(self._stored, kept, strict=True):
                buffer[: self._filled] = values
        self._random.set_state(state["random"])


def _allocate(capacity: int, images: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
    return images.new_empty(capacity, *images.shape[1:]), attention.new_empty(
        capacity, *attention.shape[1:]
    )
