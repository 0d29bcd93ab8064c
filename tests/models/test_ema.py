"""The moving average against hand-computed weights."""

import torch

from agit_hub.config import AGITConfig
from agit_hub.models.agit import AGITModel
from agit_hub.models.ema import MovingAverage
from tests.conftest import MakeModel


def _fill(model: AGITModel, value: float) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(value)


def test_moving_average_update_copies_then_decays(make_model: MakeModel) -> None:
    model = make_model()
    average = MovingAverage(model, decay=0.75)
    for value, expected in ((4.0, 4.0), (8.0, 5.0), (5.0, 5.0), (1.0, 4.0)):
        _fill(model, value)
        average.update()
        for weight in average.model.parameters():
            assert torch.equal(weight, torch.full_like(weight, expected))
            assert not weight.requires_grad


def test_moving_average_load_state_dict_resumes_identically(make_model: MakeModel) -> None:
    model = make_model()
    average, resumed = MovingAverage(model, 0.5), MovingAverage(model, 0.5)
    for value in (2.0, 6.0):
        _fill(model, value)
        average.update()
    resumed.load_state_dict(average.state_dict())
    _fill(model, 8.0)
    resumed.update()  # 4, and half of the way from there to 8
    assert all(torch.equal(w, torch.full_like(w, 6.0)) for w in resumed.model.parameters())


def test_moving_average_shares_frozen_features() -> None:
    config = AGITConfig(
        image_size=16, channels=4, blocks=0, attention_channels=4, attention="features"
    )
    model = AGITModel(config)
    average = MovingAverage(model, 0.5)
    assert average.model.features is model.features
    assert average.model.attention_s is not model.attention_s
    assert not any(key.startswith("features") for key in average.state_dict()["weights"])
