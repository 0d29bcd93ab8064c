"""A fixed small CNN that tells the objects of the two `shapes` domains apart.

It is trained on real drawings alone, with its own seed, and never sees a translation: a witness that
does not depend on the model it is asked about.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from agit_hub.data import shapes
from agit_hub.evaluation.image_metrics import Mask
from agit_hub.inference.image_processor import to_tensor

# Scenes of its own, which neither training nor evaluation draws.
_TRAINING_SEED = 101
_HELD_OUT_SEED = 102
_TRAINING_PICTURES = 400
_HELD_OUT_PICTURES = 200
_EPOCHS = 4
_BATCH = 32


class ShapesClassifier:
    """Says which domain the objects in a picture belong to; the background is hidden from it.

    Args:
        size: Side of the pictures in pixels.
    """

    def __init__(self, size: int) -> None:
        pictures, labels = _drawings(size, _TRAINING_SEED, _TRAINING_PICTURES)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._network = _network()
            self._train(pictures, labels)
        self._network.eval()
        held_out, truth = _drawings(size, _HELD_OUT_SEED, _HELD_OUT_PICTURES)
        self.accuracy = (self._answers(held_out) == truth).float().mean().item()
        """Share of held-out real drawings that it assigns rightly."""

    @property
    def description(self) -> str:
        """How it came to its judgement, for a protocol."""
        return (
            "objects judged by a small CNN trained on real drawings alone, "
            f"{self.accuracy:.1%} right on held-out ones"
        )

    def __call__(
        self, pictures: Sequence[Image.Image], masks: Sequence[Mask | None], label: str
    ) -> list[float]:
        """For each picture 1 if it takes its objects for `label`'s, else 0.

        Args:
            pictures: RGB, of the size it was made for.
            masks: Where the objects are, (size, size) each.
            label: One of `shapes.LABELS`.
        """
        pairs = [(p, m) for p, m in zip(pictures, masks, strict=True) if m is not None]
        answers = self._answers(torch.cat([_objects(picture, mask) for picture, mask in pairs]))
        return (answers == shapes.LABELS.index(label)).float().tolist()

    def _train(self, pictures: Tensor, labels: Tensor) -> None:
        optimizer = torch.optim.Adam(self._network.parameters(), lr=2e-3)
        for _ in range(_EPOCHS):
            for index in torch.split(torch.randperm(len(labels)), _BATCH):
                loss = F.cross_entropy(self._network(pictures[index]), labels[index])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    @torch.inference_mode()
    def _answers(self, objects: Tensor) -> Tensor:
        return self._network(objects).argmax(dim=1)  # type: ignore[no-any-return]


def _network() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 32)):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(4, outputs)]
        layers += [nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 2))


def _drawings(size: int, seed: int, count: int) -> tuple[Tensor, Tensor]:
    drawn = [shapes.draw(label, n, size, seed) for label in shapes.LABELS for n in range(count)]
    labels = torch.arange(len(shapes.LABELS)).repeat_interleave(count)
    return torch.cat([_objects(picture, mask) for picture, mask in drawn]), labels


def _objects(picture: Image.Image, mask: npt.NDArray[np.bool_]) -> Tensor:
    return to_tensor(picture) * torch.from_numpy(mask)
