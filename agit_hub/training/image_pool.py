"""The image pool: translated pictures of earlier steps, each with the map that produced it."""

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """A history of translated pictures for a discriminator (Shrivastava et al., 2017).

    The authors' pool holds pictures *with* their attention maps, so that after the switch an old
    fake is masked by the map that made it. Until the pool is full each picture is stored and
    returned; afterwards each is, with even odds, swapped for a stored one.

    Args:
        capacity: How many pictures are kept; 0 hands every picture straight through.
        seed: Of the pool's own random stream; one pool per rank.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self._random = torch.Generator().manual_seed(seed)
        self._images: list[Tensor] = []
        self._attention: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._images)

    def query(self, images: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Exchange a batch of fakes and their maps for one of the same size, old and new mixed.

        Args:
            images: Translated pictures, (N, 3, H, W); detached here.
            attention: The maps that produced them, (N, 1, H, W).

        Returns:
            Pictures and maps that belong together, shaped like the arguments.
        """
        images, attention = images.detach(), attention.detach()
        if self.capacity == 0:
            return images, attention
        pairs = [self._exchange(i, a) for i, a in zip(images, attention, strict=True)]
        return torch.stack([image for image, _ in pairs]), torch.stack([a for _, a in pairs])

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Stored pictures with their maps, drawn at random with repeats; nothing is exchanged.

        Args:
            count: How many; the pool holds at least one.
        """
        numbers = torch.randint(len(self), (count,), generator=self._random).tolist()
        return (
            torch.stack([self._images[number] for number in numbers]),
            torch.stack([self._attention[number] for number in numbers]),
        )

    def _exchange(self, image: Tensor, attention: Tensor) -> tuple[Tensor, Tensor]:
        if len(self) < self.capacity:
            # Cloned, for a slice would keep the whole batch's storage alive.
            self._images.append(image.clone())
            self._attention.append(attention.clone())
            return image, attention
        chance = torch.rand((), generator=self._random).item()
        index = int(torch.randint(self.capacity, (), generator=self._random).item())
        if chance <= 0.5:
            return image, attention
        stored = self._images[index], self._attention[index]
        self._images[index], self._attention[index] = image.clone(), attention.clone()
        return stored

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on identically."""
        return {
            "images": torch.stack(self._images) if self._images else None,
            "attention": torch.stack(self._attention) if self._attention else None,
            "random": self._random.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned, on the given device."""
        images, attention = state["images"], state["attention"]
        self._images = [] if images is None else list(images.to(device).unbind())
        self._attention = [] if attention is None else list(attention.to(device).unbind())
        self._random.set_state(state["random"])
