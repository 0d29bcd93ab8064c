"""Split convolutions match the original ones."""

import pytest
import torch
from torch import nn

from agit_hub.backends.exportable import ExportableDirection
from agit_hub.backends.split_wide_convs import split_wide_convs
from tests.conftest import MakeModel


@pytest.mark.parametrize("changes", [{}, {"attention": "ones"}, {"attention_decoder": "official"}])
def test_split_wide_convs_matches_model(make_model: MakeModel, changes: dict[str, str]) -> None:
    model = make_model(**changes).eval()
    images = torch.rand(2, 3, 20, 36) * 2 - 1
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for to in model.config.labels:
        with torch.no_grad():
            expected, found = model(images, to), split_wide_convs(model)(images, to)
        for one, other in zip(expected, found, strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=2e-6)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_split_wide_convs_splits_heads_only(make_model: MakeModel) -> None:
    def shapes(model: nn.Module) -> list[tuple[int, ...]]:
        return [tuple(each.weight.shape) for each in model.modules() if isinstance(each, nn.Conv2d)]

    model = make_model(channels=5, attention_channels=6)
    whole, lean = shapes(model), shapes(split_wide_convs(model))
    # Two attention networks' heads of 7 x 7 to one channel, two generators' to three.
    assert sorted(shape for shape in whole if shape not in lean) == sorted(
        [(1, 6, 7, 7)] * 2 + [(3, 5, 7, 7)] * 2
    )
    assert sorted(shape for shape in lean if shape not in whole) == sorted(
        [(7, 6, 1, 7), (1, 7, 7, 1)] * 2 + [(21, 5, 1, 7), (3, 21, 7, 1)] * 2
    )


@pytest.mark.slow
def test_export_program_splits_wide_convs(make_model: MakeModel) -> None:
    program = ExportableDirection(make_model(channels=5), "zebra").export_program()
    shapes = {name: tuple(value.shape) for name, value in program.state_dict.items()}
    assert (21, 5, 1, 7) in shapes.values() and (3, 5, 7, 7) not in shapes.values()
