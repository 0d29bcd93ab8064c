"""Attention warm-up on the domain labels."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from agit_hub.data.loader import Batch
from agit_hub.models.attention import BLOCKS, FeatureAttention
from agit_hub.models.backbone import WIDTHS, FrozenBackbone
from agit_hub.training import domain_labels


def test_propagate_part_of_object_covers_whole_object() -> None:
    torch.manual_seed(0)
    channels = WIDTHS[BLOCKS[1]] + WIDTHS[BLOCKS[2]]
    background, animal = torch.randn(2, channels).unbind()
    cells = background[None, :, None, None].repeat(1, 1, 32, 32)
    cells[:, :, 8:24, 8:24] = animal[:, None, None]
    logits = torch.full((1, 1, 32, 32), -2.0)
    logits[:, :, 8:12, 8:24] = 4.0  # a quarter of the animal
    labels = domain_labels._propagate(logits, cells)
    assert labels.shape == logits.shape
    assert labels[:, :, 8:24, 8:24].min() > 0.9
    assert labels[:, :, :8].max() < 0.1


def test_pseudo_label_loss_ambiguous_labels_is_zero() -> None:
    logits = torch.randn(1, 1, 4, 4, requires_grad=True)
    between = torch.full((1, 1, 4, 4), 0.47)
    assert domain_labels._pseudo_label_loss(logits, between).item() == 0


def test_train_attention_triples_logits_and_takes_one_off_at_the_end(
    features: FrozenBackbone,
) -> None:
    torch.manual_seed(0)
    attention = FeatureAttention(features)
    blocks = [torch.randn(2, WIDTHS[block], 8, 8) for block in BLOCKS]
    with torch.no_grad():
        before = attention.coarse_logits(blocks)
        domain = domain_labels._DomainFeatures(blocks, blocks, [(0, 0), (8, 8)], None)
        domain_labels._train_attention(attention, domain, torch.zeros(2, 1, 32, 32), steps=0)
        torch.testing.assert_close(attention.coarse_logits(blocks), 3 * before - 1)


@pytest.mark.slow
def test_learn_domain_labels_attends_to_domain_difference(
    monkeypatch: pytest.MonkeyPatch, features: FrozenBackbone
) -> None:
    monkeypatch.setattr(domain_labels, "_IMAGES", 8)
    torch.manual_seed(0)

    model = SimpleNamespace(
        features=features,
        attention_s=FeatureAttention(features),
        attention_t=FeatureAttention(features),
    )

    def domain(channel: int) -> Tensor:
        image = torch.rand(4, 3, 64, 64) * 0.2 - 0.1
        image[:, channel, 16:48, 16:48] = 1.0
        return image

    def batches() -> Iterator[Batch]:
        while True:
            yield Batch(domain(0), domain(2))

    domain_labels.learn_domain_labels(SimpleNamespace(model=model), batches(), 40)  # type: ignore[arg-type]
    for channel, attention in ((0, model.attention_s), (2, model.attention_t)):
        with torch.inference_mode():
            map_ = attention(domain(channel))

        assert map_[:, :, 24:40, 24:40].mean() > map_[:, :, :8].mean() + 0.3


def test_learn_domain_labels_follows_masks_where_there_are_some(
    monkeypatch: pytest.MonkeyPatch, features: FrozenBackbone
) -> None:
    """The domains differ in one square, and the masks of some images show another one."""
    monkeypatch.setattr(domain_labels, "_IMAGES", 8)
    maps = []
    for masked in (False, True):
        torch.manual_seed(0)
        model = SimpleNamespace(
            features=features,
            attention_s=FeatureAttention(features),
            attention_t=FeatureAttention(features),
        )

        def batches(masked: bool = masked) -> Iterator[Batch]:
            while True:
                source, target = (torch.rand(4, 3, 64, 64) * 0.2 - 0.1 for _ in "st")
                source[:, 0, 8:32, 8:32] = 1.0
                for each in (source, target):
                    each[:, 1, 32:56, 32:56] = 1.0
                mask = torch.full((4, 1, 64, 64), -1.0)
                mask[:2] = 0.0
                mask[:2, :, 32:56, 32:56] = 1.0
                yield Batch(source, target, mask if masked else None)

        networks = SimpleNamespace(model=model)
        domain_labels.learn_domain_labels(networks, batches(), 40, 2)  # type: ignore[arg-type]
        with torch.inference_mode():
            found = model.attention_s(next(batches()).source)
        maps.append((found[:, :, 12:28, 12:28].mean(), found[:, :, 36:52, 36:52].mean()))
    (own, common), (own_masked, common_masked) = maps
    assert own >= common and common_masked > own_masked + 0.3, maps


def test_extract_collects_images_with_masks_beyond_the_others(
    monkeypatch: pytest.MonkeyPatch, features: FrozenBackbone
) -> None:
    monkeypatch.setattr(domain_labels, "_IMAGES", 4)
    image = torch.zeros(2, 3, 32, 32)
    mask = torch.cat([torch.ones(1, 1, 32, 32), torch.full((1, 1, 32, 32), -1.0)])
    batches = iter([Batch(image, image, mask)] * 5)
    source, target = domain_labels._extract(features, batches, 3)
    # Four of two batches, and of three more those with a mask.
    assert source.masks is not None and len(source.whole[0]) == len(source.corners) == 7
    assert [bool(each.min() >= 0) for each in source.masks] == [True, False] * 2 + [True] * 3
    assert target.masks is None and len(target.corners) == 4
