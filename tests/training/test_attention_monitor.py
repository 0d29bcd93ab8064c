"""Figures of a map by hand, and the watch that tells an early dip from a collapse."""

import io

import pytest
import torch

from agit_hub.training.attention_monitor import Collapse, CollapseWatch, attention_figures


@pytest.mark.parametrize(
    ("values", "tau", "mean", "area", "entropy", "binary"),
    [
        ([0.5, 0.5, 0.5, 0.5], 0.1, 0.5, 1.0, 1.0, 0.0),
        ([0.0, 1.0, 0.0, 1.0], 0.1, 0.5, 0.5, 0.0, 1.0),
        ([0.0, 0.0, 0.0, 0.0], 0.0, 0.0, 1.0, 0.0, 1.0),
        # H(1/4) = 2 - 3/4 log2 3; H(1/8) = 3 - 7/8 log2 7. What equals tau reaches it.
        ([0.25, 0.75, 0.125, 0.875], 0.25, 0.5, 0.75, 0.677421, 0.0),
        # H(0.05) = H(0.95) = 0.286397; H(0.2) = 0.721928; H(0.3) = 0.881291
        ([0.05, 0.2, 0.3, 0.95], 0.25, 0.375, 0.5, 0.544003, 0.5),
    ],
    ids=["undecided", "decided", "empty", "quarters", "mixed"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_figures_by_hand(
    values: list[float],
    tau: float,
    mean: float,
    area: float,
    entropy: float,
    binary: float,
    dtype: torch.dtype,
) -> None:
    attention = torch.tensor(values, dtype=dtype).view(1, 1, 2, 2).requires_grad_()
    figures = attention_figures(attention, tau)
    assert list(figures) == ["mean", "area", "entropy", "binary"]
    assert all(f.shape == () and not f.requires_grad for f in figures.values())
    found = [figure.item() for figure in figures.values()]
    assert found == pytest.approx([mean, area, entropy, binary], abs=1e-4)


def _seen(
    watch: CollapseWatch, steps: range, source: float, target: float = 0.5
) -> list[tuple[int, Collapse]]:
    return [
        (step, collapse)
        for step in steps
        for collapse in watch.observe(step, {"source": source, "target": target})
    ]


@pytest.mark.parametrize(("mean", "kind"), [(0.005, "empty"), (0.97, "full")])
def test_a_map_that_stays_empty_or_full_is_reported_once_when_patience_ends(
    mean: float, kind: str
) -> None:
    watch = CollapseWatch(patience=100)
    assert not _seen(watch, range(10, 50, 10), 0.3)
    ((step, collapse),) = _seen(watch, range(50, 1000, 10), mean)
    assert step == 150
    assert (collapse.side, collapse.kind, collapse.steps) == ("source", kind, 100)


def test_an_early_dip_that_recovers_is_not_reported() -> None:
    watch = CollapseWatch(patience=100)
    assert not _seen(watch, range(10, 110, 10), 0.001)
    assert not _seen(watch, range(110, 120, 10), 0.02)
    # The clock starts anew, and again where empty turns to full.
    assert not _seen(watch, range(120, 220, 10), 0.001)
    assert not _seen(watch, range(220, 320, 10), 0.99)
    assert [step for step, _ in _seen(watch, range(320, 400, 10), 0.99)] == [320]


def test_just_at_a_limit_a_map_is_alive() -> None:
    watch = CollapseWatch(patience=0)
    assert not _seen(watch, range(10), 0.01, 0.95)
    assert not watch.collapses(10, patience=0)


def test_each_map_and_each_kind_speaks_for_itself_and_says_what_helps() -> None:
    watch = CollapseWatch(patience=20)
    said = _seen(watch, range(0, 100, 10), 0.0, 1.0)
    assert [(s, c.side, c.kind) for s, c in said] == [
        (20, "source", "empty"),
        (20, "target", "full"),
    ]
    empty, full = (str(collapse) for _, collapse in said)
    assert "source" in empty and "near 0" in empty and "20 steps" in empty
    assert "train.lambda_cyc_warmup_steps" in empty and "train.attention_bias" in empty
    assert "target" in full and "near 1" in full and "raise train.lambda_cyc" in full
    # The other kind on the same side is news; the first kind again is not.
    assert [c.kind for _, c in _seen(watch, range(100, 200, 10), 1.0)] == ["full"]
    assert not _seen(watch, range(200, 300, 10), 0.0)


def test_with_patience_zero_it_names_what_merely_looks_collapsed() -> None:
    watch = CollapseWatch(patience=1000)
    _seen(watch, range(10, 20, 10), 0.0)
    (now,) = watch.collapses(30, patience=0)
    assert (now.side, now.kind) == ("source", "empty")
    assert not watch.collapses(30)
    _seen(watch, range(40, 50, 10), 0.5)
    assert not watch.collapses(50, patience=0)


def test_a_resumed_watch_remembers_since_when_and_what_it_said() -> None:
    watch, resumed = CollapseWatch(patience=100), CollapseWatch(patience=100)
    assert [s for s, _ in _seen(watch, range(0, 110, 10), 0.5, 1.0)] == [100]
    _seen(watch, range(110, 150, 10), 0.0, 1.0)
    file = io.BytesIO()
    torch.save(watch.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    said = _seen(resumed, range(150, 500, 10), 0.0, 1.0)
    assert [(step, c.side, c.kind) for step, c in said] == [(210, "source", "empty")]
    assert said == _seen(watch, range(150, 500, 10), 0.0, 1.0)
