"""Learning rate, weight of the cycle loss and switch, against values computed by hand."""

from typing import Any

import pytest

from agit_hub.training.config import SwitchConfig, TrainSettings
from agit_hub.training.schedule import Schedule


def _schedule(steps_per_epoch: int = 8, **settings: Any) -> Schedule:
    return Schedule(TrainSettings(**settings), steps_per_epoch)


@pytest.mark.parametrize(
    ("decay_from", "rates"),
    [
        (0.5, [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]),
        (0.0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (0.8, [1, 1, 1, 1, 1, 1, 1, 1, 1, 0.5]),
        (1.0, [1] * 10),
    ],
)
def test_learning_rate_is_constant_then_decays_linearly(
    decay_from: float, rates: list[float]
) -> None:
    schedule = _schedule(max_steps=10, learning_rate=2e-3, decay_from=decay_from)
    found = [schedule.phase(step).learning_rate for step in range(10)]
    assert found == pytest.approx([2e-3 * rate for rate in rates])


@pytest.mark.parametrize("kind", ["discriminator", "attention"])
def test_own_learning_rates_decay_alike(kind: str) -> None:
    key = f"{kind}_learning_rate"
    for own, expected in ((None, 2e-3), (8e-3, 8e-3)):
        schedule = _schedule(max_steps=10, learning_rate=2e-3, **{key: own})
        for step, share in ((0, 1.0), (8, 0.4)):
            phase = schedule.phase(step)
            assert getattr(phase, key) == pytest.approx(share * expected)
            assert phase.learning_rate == pytest.approx(share * 2e-3)


def test_lambda_cyc_warmup_rises_linearly() -> None:
    rising = _schedule(max_steps=10, lambda_cyc=6.0, lambda_cyc_warmup_steps=4)
    found = [rising.phase(step).lambda_cyc for step in (0, 1, 2, 3, 4, 5, 9)]
    assert found == pytest.approx([0, 1.5, 3, 4.5, 6, 6, 6])
    assert _schedule(max_steps=10, lambda_cyc=6.0).phase(0).lambda_cyc == 6


def test_schedule_steps_override_epochs() -> None:
    by_epochs = _schedule(num_epochs=2.5, switch=SwitchConfig(epoch=1.5))
    assert (by_epochs.total_steps, by_epochs.switch_due) == (20, 12)
    by_steps = _schedule(num_epochs=2.5, max_steps=7, switch=SwitchConfig(epoch=1.5, step=3))
    assert (by_steps.total_steps, by_steps.switch_due) == (7, 3)
    # Step 0 is not the same as none.
    assert _schedule(switch=SwitchConfig(epoch=1.5, step=0)).switch_due == 0
    assert _schedule(switch=SwitchConfig(epoch=None, step=5)).switch_due == 5
    assert _schedule(num_epochs=0.01).total_steps == 1


def test_schedule_of_paper_on_horse2zebra() -> None:
    """Epochs of 1334 steps, 100 of them, the rate falling from the middle, the switch at 30."""
    schedule = _schedule(steps_per_epoch=1334)
    assert schedule.total_steps == 133_400
    assert [schedule.phase(s).learning_rate for s in (0, 66_700, 100_050)] == pytest.approx(
        [1e-4, 1e-4, 5e-5]
    )
    assert not schedule.is_switch_due(40_019) and schedule.is_switch_due(40_020)
    schedule.switch(40_020)
    before, after = schedule.phase(40_019), schedule.phase(40_020)
    assert (before.threshold, before.train_attention, before.normalise) == (0, True, True)
    assert (after.threshold, after.train_attention, after.normalise) == (0.1, False, False)
    assert before.lambda_cyc == after.lambda_cyc == 10


def test_switch_epoch_none_never_switches() -> None:
    schedule = _schedule(switch=SwitchConfig(epoch=None))
    assert not schedule.is_switch_due(10**9)
    assert schedule.phase(10**9).threshold == 0


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        ("mask", (0.3, True, True)),
        ("freeze_attention", (0.0, False, True)),
        ("bypass_norm", (0.0, True, False)),
    ],
)
def test_switch_effects_are_independent(effect: str, expected: tuple[float, bool, bool]) -> None:
    effects = {name: name == effect for name in ("mask", "freeze_attention", "bypass_norm")}
    schedule = _schedule(attention_threshold=0.3, switch=SwitchConfig(step=2, **effects))
    schedule.switch(2)
    phases = [schedule.phase(step) for step in (1, 2)]
    found = [(p.threshold, p.train_attention, p.normalise) for p in phases]
    assert found == [(0.0, True, True), expected]


def test_late_switch_counts_from_its_step_after_resuming() -> None:
    settings = TrainSettings(switch=SwitchConfig(step=3))
    schedule, resumed = Schedule(settings, 8), Schedule(settings, 8)
    assert [schedule.is_switch_due(step) for step in (2, 3, 6)] == [False, True, True]
    resumed.load_state_dict(schedule.state_dict())
    assert resumed.is_switch_due(7)
    schedule.switch(7)
    resumed.load_state_dict(schedule.state_dict())
    for each in (schedule, resumed):
        assert each.switched_at == 7 and not each.is_switch_due(8)
        assert [each.phase(step).threshold for step in (3, 6, 7)] == [0.0, 0.0, 0.1]
