"""A small CNN that classifies the objects of the two `shapes` domains.

It is trained on real drawings alone, with a fixed seed, and never on translations, so it is independent
of the model under evaluation.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from agit_hub.data import shapes
from agit_hub.evaluation.image_metrics import Mask
from agit_hub.inference.image_processor import to_tensor

# Scenes that neither training nor evaluation draws.
_TRAINING_SEED = 101
_TEST_SEED = 102
_TRAINING_IMAGES = 400
_TEST_IMAGES = 200
_EPOCHS = 4
_BATCH = 32


class ShapesClassifier:
    """Classifies which domain the objects of images of `size` pixels a side belong to."""

    def __init__(self, size: int) -> None:
        images, labels = _drawings(size, _TRAINING_SEED, _TRAINING_IMAGES)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self._network = _network()
            self._train(images, labels)
        self._network.eval()
        test_images, test_labels = _drawings(size, _TEST_SEED, _TEST_IMAGES)
        self.accuracy = (self._classify(test_images) == test_labels).float().mean().item()
        """On held-out real drawings."""

    @property
    def description(self) -> str:
        """How the classifier was trained and its accuracy, for a protocol."""
        return (
            "objects classified by a small CNN trained on real drawings alone, "
            f"{self.accuracy:.1%} accurate on held-out ones"
        )

    def __call__(
        self, images: Sequence[Image.Image], masks: Sequence[Mask | None], label: str
    ) -> list[float]:
        """Return 1 for each RGB image whose masked objects are classified as `label`, else 0."""
        pairs = [(i, m) for i, m in zip(images, masks, strict=True) if m is not None]
        classes = self._classify(torch.cat([_objects(image, mask) for image, mask in pairs]))
        return (classes == shapes.LABELS.index(label)).float().tolist()

    def _train(self, images: Tensor, labels: Tensor) -> None:
        optimizer = torch.optim.Adam(self._network.parameters(), lr=2e-3)
        for _ in range(_EPOCHS):
            for index in torch.split(torch.randperm(len(labels)), _BATCH):
                loss = F.cross_entropy(self._network(images[index]), labels[index])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

    @torch.inference_mode()
    def _classify(self, objects: Tensor) -> Tensor:
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
    return torch.cat([_objects(image, mask) for image, mask in drawn]), labels


def _objects(image: Image.Image, mask: Mask) -> Tensor:
    return to_tensor(image) * torch.from_numpy(mask)
