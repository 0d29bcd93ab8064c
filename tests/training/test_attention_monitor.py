"""Metrics of attention maps, and detection of collapse."""

import io

import pytest
import torch

from agit_hub.training.attention_monitor import (
    Collapse,
    CollapseMonitor,
    attention_metrics,
    mean_change,
)


@pytest.mark.parametrize(
    ("values", "tau", "mean", "area", "entropy", "binary"),
    [
        ([0.5, 0.5, 0.5, 0.5], 0.1, 0.5, 1.0, 1.0, 0.0),
        ([0.0, 1.0, 0.0, 1.0], 0.1, 0.5, 0.5, 0.0, 1.0),
        ([0.0, 0.0, 0.0, 0.0], 0.0, 0.0, 1.0, 0.0, 1.0),
        # H(1/4) = 2 - 3/4 log2 3; H(1/8) = 3 - 7/8 log2 7. The area includes values equal to tau.
        ([0.25, 0.75, 0.125, 0.875], 0.25, 0.5, 0.75, 0.677421, 0.0),
        # H(0.05) = H(0.95) = 0.286397; H(0.2) = 0.721928; H(0.3) = 0.881291
        ([0.05, 0.2, 0.3, 0.95], 0.25, 0.375, 0.5, 0.544003, 0.5),
    ],
    ids=["undecided", "decided", "empty", "quarters", "mixed"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_attention_metrics_of_small_maps_equal_values_by_hand(
    values: list[float],
    tau: float,
    mean: float,
    area: float,
    entropy: float,
    binary: float,
    dtype: torch.dtype,
) -> None:
    attention = torch.tensor(values, dtype=dtype).view(1, 1, 2, 2).requires_grad_()
    metrics = attention_metrics(attention, tau)
    assert list(metrics) == ["mean", "area", "entropy", "binary"]
    assert all(m.shape == () and not m.requires_grad for m in metrics.values())
    found = [metric.item() for metric in metrics.values()]
    assert found == pytest.approx([mean, area, entropy, binary], abs=1e-4)


def _update(
    monitor: CollapseMonitor,
    steps: range,
    source: float,
    target: float = 0.5,
    change: float = 0.3,
) -> list[tuple[int, Collapse]]:
    means, changes = {"source": source, "target": target}, {"source": change, "target": 0.3}
    return [(s, collapse) for s in steps for collapse in monitor.update(s, means, changes)]


def test_mean_change_is_mean_absolute_difference() -> None:
    image = torch.zeros(1, 3, 2, 2)
    change = torch.tensor([0.4, -0.2, 0.0, 0.2]).view(1, 1, 2, 2)
    assert mean_change(image, image + change).item() == pytest.approx(0.2)


@pytest.mark.parametrize(("mean", "kind"), [(0.005, "empty"), (0.97, "full")])
def test_collapse_monitor_map_empty_or_full_for_patience_reports_once(
    mean: float, kind: str
) -> None:
    monitor = CollapseMonitor(patience=100)
    ((step, collapse),) = _update(monitor, range(1, 1000), mean)
    assert step == 101
    assert (collapse.side, collapse.kind, collapse.steps) == ("source", kind, 100)


def test_collapse_monitor_lucky_batches_do_not_restart_the_count() -> None:
    """Batches of one image: now and then a map looks healthy, and the next one is empty again."""
    monitor = CollapseMonitor(patience=1000)
    for step in range(1, 1500):
        lucky = 0.3 if step % 150 == 0 else 0.001
        reported = _update(monitor, range(step, step + 1), lucky)
        if reported:
            break
    assert step == 1001
    assert monitor.collapses(step, patience=0)[0].kind == "empty"


def test_collapse_monitor_images_without_objects_are_no_collapse() -> None:
    """Now and then a batch shows none, and its map is rightly empty."""
    monitor = CollapseMonitor(patience=200)
    for step in range(1, 1000):
        mean = 0.001 if step % 20 == 0 else 0.3
        assert not _update(monitor, range(step, step + 1), mean)
        assert not monitor.collapses(step, patience=0)


def test_collapse_monitor_recovery_must_last() -> None:
    monitor = CollapseMonitor(patience=400)
    _update(monitor, range(1, 300), 0.001)
    _update(monitor, range(300, 390), 0.3)
    assert monitor.collapses(389, patience=0)
    _update(monitor, range(390, 401), 0.3)
    assert not monitor.collapses(400, patience=0)
    # After it the count begins anew, when the running mean has come down.
    assert not _update(monitor, range(401, 800), 0.001)
    assert [c.kind for _, c in _update(monitor, range(800, 1200), 0.001)] == ["empty"]


def test_collapse_monitor_other_kind_restarts_the_count() -> None:
    monitor = CollapseMonitor(patience=3)  # remembers one step
    assert not _update(monitor, range(1, 4), 0.001)
    assert [step for step, _ in _update(monitor, range(4, 9), 0.99)] == [7]


def test_collapse_monitor_open_map_and_unchanged_images_are_reported() -> None:
    monitor = CollapseMonitor(patience=100)
    ((step, collapse),) = _update(monitor, range(1, 300), 0.4, change=0.007)
    assert (step, collapse.side, collapse.kind) == (101, "source", "idle")
    message = str(collapse)
    assert "source images" in message and "equalled their inputs" in message
    assert "train.lambda_cyc" in message and "train.discriminator" in message
    assert not _update(CollapseMonitor(patience=100), range(1, 300), 0.4, change=0.009)


def test_collapse_monitor_mean_at_limit_is_healthy() -> None:
    monitor = CollapseMonitor(patience=0)
    assert not _update(monitor, range(10), 0.01, 0.95)
    assert not monitor.collapses(10, patience=0)


def test_collapse_monitor_reports_each_side_and_kind_with_remedies() -> None:
    monitor = CollapseMonitor(patience=20)
    reported = _update(monitor, range(30), 0.0, 1.0)
    assert [(s, c.side, c.kind) for s, c in reported] == [
        (20, "source", "empty"),
        (20, "target", "full"),
    ]
    empty, full = (str(collapse) for _, collapse in reported)
    assert "source" in empty and "near 0" in empty and "20 steps" in empty
    assert "train.lambda_cyc_warmup_steps" in empty and "train.attention_floor" in empty
    assert "target" in full and "near 1" in full and "increase train.lambda_cyc" in full
    # Another kind on the same side is reported; the first kind is not reported again.
    assert [c.kind for _, c in _update(monitor, range(30, 100), 1.0)] == ["full"]
    assert not _update(monitor, range(100, 200), 0.0)


def test_collapses_with_patience_zero_returns_current_state() -> None:
    monitor = CollapseMonitor(patience=1000)
    _update(monitor, range(1), 0.0)
    (now,) = monitor.collapses(30, patience=0)
    assert (now.side, now.kind) == ("source", "empty")
    assert not monitor.collapses(30)


def test_collapse_monitor_resumed_continues_count_and_reports() -> None:
    monitor, resumed = CollapseMonitor(patience=100), CollapseMonitor(patience=100)
    assert [s for s, _ in _update(monitor, range(110), 0.5, 1.0)] == [100]
    _update(monitor, range(110, 150), 0.001, 1.0)
    file = io.BytesIO()
    torch.save(monitor.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    reported = _update(resumed, range(150, 500), 0.001, 1.0)
    assert [(c.side, c.kind) for _, c in reported] == [("source", "empty")]
    assert reported == _update(monitor, range(150, 500), 0.001, 1.0)
