"""A run that measures itself: on pictures it never learns from, and without a trace in what it learns."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.cli.train import main
from agit_hub.errors import ConfigError
from agit_hub.evaluation.results import read_results
from agit_hub.models.agit import AGITModel
from agit_hub.training.config import TrainConfig
from agit_hub.training.setup import prepare
from agit_hub.training.trainer import Trainer
from agit_hub.training.validation import Validation, ValidationResult
from tests.training.conftest import SIZE, Arguments, Process, Train

Configure = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, float]]]
States = Callable[[Path], dict[str, Any]]
WEIGHTS = "model/model.safetensors"
COUNT = 12
# One in three: rows 2, 5, 8 and 11 of each folder.
HELD_OUT = (2, 5, 8, 11)
EVERY = {
    "eval.every": 2,
    "eval.holdout": 3,
    "train.max_steps": 5,
    # With these the lowest KID is not the last, nor the first.
    "train.learning_rate": 1e-2,
    "train.seed": 2,
}


def _paint(folder: Path, seed: int, numbers: range | tuple[int, ...] = range(COUNT)) -> Path:
    """Pictures `00`, `01`, ... whose order by name is that of their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        random = np.random.default_rng([seed, number])
        pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def _places(root: Path, prefix: str = "data") -> dict[str, Any]:
    return {f"{prefix}.{side}.path": root / side for side in ("source", "target")}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve pictures of either domain."""
    root = tmp_path_factory.mktemp("twelve")
    for seed, side in enumerate(("source", "target")):
        _paint(root / side, seed)
    return root


@pytest.fixture(scope="module")
def run(pictures: Path, train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five steps that measures itself after two, four and five, and saves each step."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run") / "run"
    keep = {"train.checkpoint_every": 1, "train.keep_checkpoints": 9}
    assert train(folder, EVERY | keep | _places(pictures)).finished
    return folder


def _kid(line: dict[str, float]) -> float:
    return (line["eval/st/kid"] + line["eval/ts/kid"]) / 2


def test_the_log_holds_what_was_measured(run: Path, metrics: Metrics) -> None:
    lines = {line["step"]: line for line in metrics(run)}
    measured = {step: line for step, line in lines.items() if "eval/step" in line}
    assert list(lines) == [1, 2, 3, 4, 5] and list(measured) == [2, 4, 5]
    for step, line in measured.items():
        assert line["eval/step"] == step
        names = {"kid", "attention_area", "identical", "cycle_error"}
        assert {key for key in line if key.startswith("eval/")} == {
            "eval/step",
            *(f"eval/{direction}/{name}" for direction in ("st", "ts") for name in names),
        }
        assert 0 <= line["eval/st/attention_area"] <= 1 and 0 < line["eval/ts/cycle_error"] < 1
    assert not any(key.startswith("eval/") for step in (1, 3) for key in lines[step])


def test_the_time_of_a_measurement_is_none_of_the_trainings(
    pictures: Path, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said to have ended an hour before it began, it makes the steps take that hour."""
    settings = {"eval.every": 2, "eval.holdout": 3, "train.max_steps": 2, "log.every": 2}
    trainer = Trainer(configure(tmp_path / "run", settings | _places(pictures)))
    finding = ValidationResult({"eval/step": 2.0}, "measured", seconds=-3600)
    monkeypatch.setattr(Validation, "measure", lambda *_: finding)
    assert trainer.fit().finished
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    # Two steps of one picture of each domain.
    assert json.loads(line)["images_per_second"] == pytest.approx(4 / 3600, rel=0.05)


def test_figures_for_the_card_are_those_of_the_last_step(run: Path, metrics: Metrics) -> None:
    found = read_results(run)
    assert {m.split for m in found} == {"validation"}
    assert all(m.protocol.endswith("; weights of step 5") for m in found)
    assert all("4 images" in m.protocol for m in found)
    # At the size of training, whatever that of the files is.
    assert all(f"scaled to {SIZE} pixels" in m.protocol for m in found)
    last = metrics(run)[-1]
    labels = {m.direction for m in found}
    for m in found:
        source, _, target = m.direction.partition(" to ")
        assert f"{target} to {source}" in labels
    kids = [m.value for m in found if m.metric == "kid"]
    assert kids == [last["eval/st/kid"], last["eval/ts/kid"]]


def test_the_weights_of_the_lowest_kid_are_kept(
    run: Path, metrics: Metrics, states: States
) -> None:
    kids = {line["step"]: _kid(line) for line in metrics(run) if "eval/step" in line}
    best = min(kids, key=lambda step: kids[step])
    picked = json.loads((run / "picked.json").read_text())
    assert best == 4 and picked == {"step": 4, "kid": pytest.approx(kids[best])}
    kept = AGITModel.from_pretrained(run / "picked").state_dict()
    networks = states(run)["step-00000004/state.pt"]["training"]["networks"]
    assert all(torch.equal(kept[name], networks[f"model.{name}"]) for name in kept)
    last = AGITModel.from_pretrained(run / "model").state_dict()
    assert not all(torch.equal(kept[name], last[name]) for name in kept)


def test_held_out_pictures_are_not_among_the_trainings(
    pictures: Path, run: Path, configure: Configure, tmp_path: Path
) -> None:
    start = prepare(configure(tmp_path / "new", EVERY | _places(pictures)), resume=False)
    for side, opened in (("source", start.source), ("target", start.target)):
        domain = opened.domain
        places = [(b, row) for b in range(domain.blocks) for row in range(domain.block_length(b))]
        names = [Path(domain.describe(*place)).name for place in places]
        assert names == [f"{n:02}.png" for n in range(COUNT) if n not in HELD_OUT]
        for place, name in zip(places, names, strict=True):
            with Image.open(pictures / side / name) as picture:
                assert domain.image(*place).tobytes() == picture.tobytes()
    facts = json.loads((run / "run.json").read_text())
    assert facts["pictures"] == {"source": 8, "target": 8}


def test_other_held_out_pictures_change_the_figures_and_no_weight(
    pictures: Path, run: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    shutil.copytree(pictures, others)
    _paint(others / "source", 7, HELD_OUT)
    train(tmp_path / "run", EVERY | _places(others))
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()
    for one, other in zip(metrics(run), metrics(tmp_path / "run"), strict=True):
        assert one["loss/cycle_s"] == other["loss/cycle_s"]
        if "eval/step" in one:
            assert one["eval/st/kid"] != other["eval/st/kid"]


def test_measuring_changes_nothing_in_the_training(
    pictures: Path, run: Path, train: Train, tmp_path: Path
) -> None:
    silent = EVERY | {"eval.every": None} | _places(pictures)
    train(tmp_path / "silent", silent)
    assert (tmp_path / "silent" / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()
    assert not (tmp_path / "silent" / "picked").exists()
    assert not (tmp_path / "silent" / "measurements.json").exists()
    # What is held out is not trained on, measured or not.
    train(tmp_path / "all", silent | {"eval.holdout": None})
    assert (tmp_path / "all" / WEIGHTS).read_bytes() != (run / WEIGHTS).read_bytes()


def _left(run: Path) -> dict[str, bytes]:
    """What a run leaves beside its log and its checkpoints."""
    names = [WEIGHTS, "picked/model.safetensors", "picked.json", "measurements.json"]
    return {name: (run / name).read_bytes() for name in names}


def test_a_resumed_run_equals_the_uninterrupted_one(
    pictures: Path,
    train: Train,
    metrics: Metrics,
    states: States,
    interrupt_when: Callable[..., Any],
    assert_same: Callable[[Any, Any, str], None],
    tmp_path: Path,
) -> None:
    """Stopped between a measurement and the log step that tells it."""
    settings = EVERY | _places(pictures)
    # Here the lowest KID is that of step 4, so whoever forgets it picks step 6.
    settings |= {"eval.every": 4, "train.max_steps": 6, "log.every": 5}
    settings |= {"train.seed": 3, "train.ema": 0.5}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, settings).finished
    with interrupt_when("Step 4: KID "):
        assert train(parts, settings).step == 4
    assert train(parts, settings, resume=True).finished
    assert metrics(parts) == metrics(whole)
    assert [line.get("eval/step") for line in metrics(whole)] == [4, 6]
    assert json.loads((whole / "picked.json").read_text())["step"] == 4
    assert _left(parts) == _left(whole)
    expected, found = states(whole), states(parts)
    for name in expected:
        assert_same(expected[name], found[name], name)


def test_a_run_that_goes_back_to_an_older_checkpoint_picks_the_same(
    pictures: Path, run: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    """As after a crash: what was measured since the checkpoint is measured again."""
    keep = {"train.checkpoint_every": 1, "train.keep_checkpoints": 9}
    for newest in (3, 4):
        again = tmp_path / f"from {newest}"
        shutil.copytree(run, again)
        for step in range(newest + 1, 6):
            shutil.rmtree(again / "checkpoints" / f"step-{step:08d}")
        assert train(again, EVERY | keep | _places(pictures), resume=True).finished
        assert metrics(again) == metrics(run)
        assert _left(again) == _left(run)


# A learning rate too small to change a weight: after the first measurement no KID is lower.
STILL = EVERY | {"train.learning_rate": 1e-30, "train.max_steps": 20, "eval.patience": 2}


def _measured(lines: list[dict[str, float]]) -> list[float]:
    return [line["eval/step"] for line in lines if "eval/step" in line]


def test_patience_ends_a_run_that_does_not_improve_as_its_last_step_would(
    pictures: Path,
    train: Train,
    metrics: Metrics,
    states: States,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    settings = STILL | {"log.every": 5} | _places(pictures)
    outcome = train(run, settings)
    assert (outcome.step, outcome.finished) == (6, True)
    said = capsys.readouterr().err
    assert "Stopped at step 6 of 20: KID has not improved for 2 measurements" in said
    assert json.loads((run / "picked.json").read_text())["step"] == 2
    # The log line, the samples, the checkpoint and the model that a run's end has.
    assert [line["step"] for line in metrics(run)] == [5, 6]
    assert (run / "samples" / "step-00000006.png").is_file()
    assert states(run)["step-00000006/state.pt"]["step"] == 6
    assert AGITModel.from_pretrained(run / "model")


def test_patience_lets_a_run_that_improves_go_on(
    pictures: Path, run: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    """Step 4 is better than step 2, so a patience of one measurement reaches the end."""
    outcome = train(tmp_path / "run", EVERY | {"eval.patience": 1} | _places(pictures))
    assert (outcome.step, outcome.finished) == (5, True)
    assert metrics(tmp_path / "run") == metrics(run)
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()


def test_patience_counts_on_in_a_resumed_run(
    pictures: Path,
    train: Train,
    metrics: Metrics,
    states: States,
    interrupt_when: Callable[..., Any],
    assert_same: Callable[[Any, Any, str], None],
    tmp_path: Path,
) -> None:
    """Interrupted after one of two measurements without a lower KID."""
    settings = STILL | _places(pictures)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, settings).step == 6
    with interrupt_when("Step 4: KID "):
        stopped = train(parts, settings)
    assert (stopped.step, stopped.finished) == (4, False)
    resumed = train(parts, settings, resume=True)
    assert (resumed.step, resumed.finished) == (6, True)
    assert metrics(parts) == metrics(whole) and _left(parts) == _left(whole)
    expected, found = states(whole), states(parts)
    for name in expected:
        assert_same(expected[name], found[name], name)


def test_patience_that_ran_out_ends_a_resumed_run_at_once_unless_raised(
    pictures: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = STILL | _places(pictures)
    assert train(run, settings).step == 6
    again = train(run, settings, resume=True)
    assert (again.step, again.finished) == (6, True) and _measured(metrics(run)) == [2, 4, 6]
    raised = train(run, settings | {"eval.patience": 3}, resume=True)
    assert (raised.step, raised.finished) == (8, True) and _measured(metrics(run)) == [2, 4, 6, 8]


def test_patience_of_two_processes_ends_both(
    pictures: Path,
    arguments: Arguments,
    two_ranks: Callable[..., list[Process]],
    metrics: Metrics,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    ranks = two_ranks(arguments(run, STILL | {"eval.patience": 1} | _places(pictures)))
    outcomes = [rank.finish() for rank in ranks]
    assert [code for code, *_ in outcomes] == [0, 0], outcomes
    assert ["Stopped at step 4 of 20" in said for _, said, _ in outcomes] == [True, False]
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4]
    assert (run / "checkpoints" / "step-00000004" / "rank-1.pt").is_file()


def test_pictures_of_another_place(
    pictures: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    valid = tmp_path / "valid"
    for seed, side in enumerate(("source", "target"), start=5):
        _paint(valid / side, seed, range(7))
    # An average of two steps, for after one it is still equal to the last weights.
    settings = {"eval.every": 9, "eval.pictures": 5, "train.max_steps": 2, "train.ema": 0.5}
    settings |= _places(pictures) | _places(valid, "eval")
    run = tmp_path / "run"
    train(run, settings)
    assert metrics(run)[-1]["eval/step"] == 2  # the last step is measured, due or not
    assert json.loads((run / "run.json").read_text())["pictures"] == {"source": 12, "target": 12}
    found = read_results(run)
    assert {m.dataset for m in found} == {"source (a folder)", "target (a folder)"}
    assert all("5 images" in m.protocol for m in found)
    # What was measured, and is kept, is what would be published: the average.
    assert (run / "picked/model.safetensors").read_bytes() == (run / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"eval.every": 2}, "every is set, and there is nothing to measure on"),
        ({"eval.holdout": 1}, "holdout"),
        ({"eval.source.path": "a"}, "source.path and target.path belong together"),
        ({"eval.target.path": "a"}, "source.path and target.path belong together"),
        (
            {"eval.source.path": "a", "eval.target.path": "b", "eval.holdout": 3},
            "holdout and source.path are both set",
        ),
        ({"eval.pictures": 3}, "pictures"),
        ({"eval.patience": 2}, "patience is set and every is not"),
        (EVERY | {"eval.patience": 0}, "patience"),
        (EVERY | {"eval.protocol": "lite1"}, "There is no protocol 'lite1'.*mean 'lite0'"),
        # One in ten of twelve is one.
        (EVERY | {"eval.holdout": 10}, r"eval: 1 .*image\(s\) are too few"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_first_step(
    pictures: Path, configure: Configure, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=said):
        Trainer(configure(tmp_path / "run", _places(pictures) | changes))
    assert not (tmp_path / "run").exists()


def test_damaged_held_out_pictures_end_in_a_sentence(
    pictures: Path, arguments: Arguments, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Three of the four are left, and a floor takes four."""
    damaged = tmp_path / "damaged"
    shutil.copytree(pictures, damaged)
    (damaged / "source" / "05.png").write_text("no picture")
    assert main(arguments(tmp_path / "run", EVERY | _places(damaged))) in (1, 2)
    said = capsys.readouterr().err
    assert "error: Step 2 cannot be measured: Only 3 of 4" in said


def test_of_two_processes_the_first_measures(
    pictures: Path,
    arguments: Arguments,
    two_ranks: Callable[..., list[Process]],
    metrics: Metrics,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    ranks = two_ranks(arguments(run, EVERY | {"train.max_steps": 3} | _places(pictures)))
    outcomes = [rank.finish() for rank in ranks]
    assert [code for code, *_ in outcomes] == [0, 0], outcomes
    assert ["Step 2: KID " in said for _, said, _ in outcomes] == [True, False]
    assert [line.get("eval/step") for line in metrics(run)] == [None, 2, 3]
    assert AGITModel.from_pretrained(run / "picked")
    assert json.loads((run / "picked.json").read_text())["step"] in (2, 3)
