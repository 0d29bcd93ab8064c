"""What a run is told of bfloat16."""

import copy

import pytest
import torch

from agit_hub.models.generator import ResnetGenerator
from agit_hub.training import precision
from agit_hub.training.precision import bf16_advice, bf16_gain, there_and_back


def test_measuring_leaves_a_generator_and_chance_as_they_were() -> None:
    generator = ResnetGenerator(channels=4, blocks=1)
    before, chance = copy.deepcopy(generator.state_dict()), torch.get_rng_state()
    assert 0 < bf16_gain(generator, torch.zeros(2, 3, 16, 16)) < 1000
    assert all(torch.equal(before[name], value) for name, value in generator.state_dict().items())
    assert all(weight.grad is None for weight in generator.parameters())
    assert torch.equal(torch.get_rng_state(), chance)


def test_the_gain_is_the_time_in_float32_over_that_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator, pictures = ResnetGenerator(channels=4, blocks=1), torch.zeros(2, 3, 16, 16)
    monkeypatch.setattr(precision, "there_and_back", lambda *given: 1.5 if given[2] else 3.0)
    assert bf16_gain(generator, pictures) == 2


@pytest.mark.parametrize("bf16", [False, True])
def test_a_pass_is_in_the_precision_that_it_is_said_to_be_in(bf16: bool) -> None:
    generator = ResnetGenerator(channels=4, blocks=1)
    types: list[torch.dtype] = []
    generator.layers[-2].register_forward_hook(lambda _, __, out: types.append(out.dtype))
    assert there_and_back(generator, torch.zeros(1, 3, 16, 16), bf16) > 0
    assert types == [torch.bfloat16 if bf16 else torch.float32]


@pytest.mark.parametrize(("gain", "said"), [(2.44, "2.4 times as fast"), (1.2, "1.2 times")])
def test_a_gain_is_told(gain: float, said: str) -> None:
    advice = bf16_advice(gain)
    assert advice is not None and said in advice and "--train.mixed_precision bf16" in advice


def test_a_loss_is_not() -> None:
    assert bf16_advice(0.9) is None and bf16_advice(1.1) is None
