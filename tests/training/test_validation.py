"""Validation during the run: on images that are not trained on, without influence on training."""

import json
import re
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
from agit_hub.runs import RunFolder
from agit_hub.training.callbacks.validation import ValidationCallback
from agit_hub.training.config import TrainConfig
from agit_hub.training.metrics import ValidationResult
from agit_hub.training.setup import setup_run
from agit_hub.training.trainer import Trainer
from tests.training.conftest import SIZE, Arguments, Process, Train

Configure = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, float]]]
States = Callable[[Path], dict[str, Any]]
WEIGHTS = "model/model.safetensors"
COUNT = 12
# One in three: rows 2, 5, 8 and 11 of each folder.
HELD_OUT = (2, 5, 8, 11)
VALIDATE = {
    "eval.steps": 2,
    "eval.holdout": 3,
    "train.max_steps": 5,
    # With these the lowest KID is not the last, nor the first.
    "train.learning_rate": 1e-2,
    "train.seed": 2,
}


def _paint(folder: Path, seed: int, numbers: range | tuple[int, ...] = range(COUNT)) -> Path:
    """Images `00`, `01`, ... whose order by name is that of their numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        random = np.random.default_rng([seed, number])
        pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


def _places(root: Path, prefix: str = "data") -> dict[str, Any]:
    return {f"{prefix}.{side}.path": root / side for side in ("source", "target")}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with twelve images of either domain."""
    root = tmp_path_factory.mktemp("twelve")
    for seed, side in enumerate(("source", "target")):
        _paint(root / side, seed)
    return root


@pytest.fixture(scope="module")
def run(images: Path, train: Train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of five steps that is validated after two, four and five, and saves each step."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run") / "run"
    keep = {"train.checkpointing_steps": 1, "train.checkpoints_total_limit": 9}
    assert train(folder, VALIDATE | keep | _places(images)).finished
    return folder


def _kid(line: dict[str, float]) -> float:
    return (line["eval/st/kid"] + line["eval/ts/kid"]) / 2


def test_metrics_file_holds_validation_metrics(run: Path, metrics: Metrics) -> None:
    lines = {line["step"]: line for line in metrics(run)}
    validated = {step: line for step, line in lines.items() if "eval/step" in line}
    assert list(lines) == [1, 2, 3, 4, 5] and list(validated) == [2, 4, 5]
    for step, line in validated.items():
        assert line["eval/step"] == step
        names = {"kid", "attention_area", "identical", "cycle_error"}
        assert {key for key in line if key.startswith("eval/")} == {
            "eval/step",
            *(f"eval/{direction}/{name}" for direction in ("st", "ts") for name in names),
        }
        assert 0 <= line["eval/st/attention_area"] <= 1 and 0 < line["eval/ts/cycle_error"] < 1
    assert not any(key.startswith("eval/") for step in (1, 3) for key in lines[step])


def test_validation_time_is_excluded_from_rate(
    images: Path, configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A validation of minus one hour makes the steps take that hour."""
    settings = {"eval.steps": 2, "eval.holdout": 3, "train.max_steps": 2, "log.steps": 2}
    trainer = Trainer(configure(tmp_path / "run", settings | _places(images)))
    result = ValidationResult({"eval/step": 2.0}, "validated", seconds=-3600)
    monkeypatch.setattr(ValidationCallback, "evaluate", lambda *_: result)
    assert trainer.fit().finished
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    # Two steps of one image of each domain.
    assert json.loads(line)["images_per_second"] == pytest.approx(4 / 3600, rel=0.05)


def test_results_for_card_are_those_of_last_step(run: Path, metrics: Metrics) -> None:
    found = read_results(run)
    assert {m.split for m in found} == {"validation"}
    assert all(m.protocol.endswith("; weights of step 5") for m in found)
    assert all("4 images" in m.protocol for m in found)
    # At the size of training, not that of the files.
    assert all(f"scaled to {SIZE} pixels" in m.protocol for m in found)
    last = metrics(run)[-1]
    labels = {m.direction for m in found}
    for m in found:
        source, _, target = m.direction.partition(" to ")
        assert f"{target} to {source}" in labels
    kids = [m.value for m in found if m.metric == "kid"]
    assert kids == [last["eval/st/kid"], last["eval/ts/kid"]]


def test_weights_of_lowest_kid_are_kept_as_best(
    run: Path, metrics: Metrics, states: States
) -> None:
    kids = {line["step"]: _kid(line) for line in metrics(run) if "eval/step" in line}
    best = min(kids, key=lambda step: kids[step])
    kept_info = json.loads((run / "best.json").read_text())
    assert best == 4 and kept_info == {"step": 4, "kid": pytest.approx(kids[best])}
    kept = AGITModel.from_pretrained(run / "best").state_dict()
    networks = states(run)["step-00000004/state.pt"]["training"]["networks"]
    assert all(torch.equal(kept[name], networks[f"model.{name}"]) for name in kept)
    last = AGITModel.from_pretrained(run / "model").state_dict()
    assert not all(torch.equal(kept[name], last[name]) for name in kept)


def test_held_out_images_are_not_trained_on(
    images: Path, run: Path, configure: Configure, tmp_path: Path
) -> None:
    config = configure(tmp_path / "new", VALIDATE | _places(images))
    start = setup_run(config, RunFolder(config.output_dir), resume=False)
    for side, opened in (("source", start.source), ("target", start.target)):
        domain = opened.domain
        places = [(b, row) for b in range(domain.blocks) for row in range(domain.block_length(b))]
        names = [Path(domain.describe(*place)).name for place in places]
        assert names == [f"{n:02}.png" for n in range(COUNT) if n not in HELD_OUT]
        for place, name in zip(places, names, strict=True):
            with Image.open(images / side / name) as image:
                assert domain.image(*place).tobytes() == image.tobytes()
    info = json.loads((run / "run.json").read_text())
    assert info["images"] == {"source": 8, "target": 8}


def test_held_out_images_change_metrics_but_no_weights(
    images: Path, run: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    others = tmp_path / "others"
    shutil.copytree(images, others)
    _paint(others / "source", 7, HELD_OUT)
    train(tmp_path / "run", VALIDATE | _places(others))
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()
    for one, other in zip(metrics(run), metrics(tmp_path / "run"), strict=True):
        assert one["loss/cycle_s"] == other["loss/cycle_s"]
        if "eval/step" in one:
            assert one["eval/st/kid"] != other["eval/st/kid"]


def test_validation_does_not_change_training(
    images: Path, run: Path, train: Train, tmp_path: Path
) -> None:
    silent = VALIDATE | {"eval.steps": None} | _places(images)
    train(tmp_path / "silent", silent)
    assert (tmp_path / "silent" / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()
    assert not (tmp_path / "silent" / "best").exists()
    assert not (tmp_path / "silent" / "measurements.json").exists()
    # Held-out images are not trained on, even without validation.
    train(tmp_path / "all", silent | {"eval.holdout": None})
    assert (tmp_path / "all" / WEIGHTS).read_bytes() != (run / WEIGHTS).read_bytes()


def _left(run: Path) -> dict[str, bytes]:
    """Return the files of a run that validation affects: weights, best weights and results."""
    names = [WEIGHTS, "best/model.safetensors", "best.json", "measurements.json"]
    return {name: (run / name).read_bytes() for name in names}


def test_validation_resumed_equals_uninterrupted(
    images: Path,
    train: Train,
    metrics: Metrics,
    states: States,
    interrupt_when: Callable[..., Any],
    assert_same: Callable[[Any, Any, str], None],
    tmp_path: Path,
) -> None:
    """Interrupted between a validation and the log step that logs it."""
    settings = VALIDATE | _places(images)
    # The lowest KID is that of step 4; a run that does not restore it would pick step 6.
    settings |= {"eval.steps": 4, "train.max_steps": 6, "log.steps": 5}
    settings |= {"train.seed": 3, "train.ema_decay": 0.5}
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, settings).finished
    with interrupt_when("Step 4: KID "):
        assert train(parts, settings).step == 4
    assert train(parts, settings, resume=True).finished
    assert metrics(parts) == metrics(whole)
    assert [line.get("eval/step") for line in metrics(whole)] == [4, 6]
    assert json.loads((whole / "best.json").read_text())["step"] == 4
    assert _left(parts) == _left(whole)
    expected, found = states(whole), states(parts)
    for name in expected:
        assert_same(expected[name], found[name], name)


def test_validation_resumed_from_older_checkpoint_picks_same_weights(
    images: Path, run: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    """As after a crash: validations after the checkpoint are repeated."""
    keep = {"train.checkpointing_steps": 1, "train.checkpoints_total_limit": 9}
    for newest in (3, 4):
        again = tmp_path / f"from {newest}"
        shutil.copytree(run, again)
        for step in range(newest + 1, 6):
            shutil.rmtree(again / "checkpoints" / f"step-{step:08d}")
        assert train(again, VALIDATE | keep | _places(images), resume=True).finished
        assert metrics(again) == metrics(run)
        assert _left(again) == _left(run)


# A learning rate too small to change a weight: after the first validation no KID is lower.
STILL = VALIDATE | {"train.learning_rate": 1e-30, "train.max_steps": 20, "eval.patience": 2}


def _validated(lines: list[dict[str, float]]) -> list[float]:
    return [line["eval/step"] for line in lines if "eval/step" in line]


def test_patience_without_improvement_ends_run_like_last_step(
    images: Path,
    train: Train,
    metrics: Metrics,
    states: States,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    settings = STILL | {"log.steps": 5} | _places(images)
    outcome = train(run, settings)
    assert (outcome.step, outcome.finished) == (6, True)
    log = capsys.readouterr().err
    assert re.search(r"Stopped at step 6 of 20: .* 2 validations .*eval\.patience 2", log)
    assert json.loads((run / "best.json").read_text())["step"] == 2
    # As at the end of any run: a log line, samples, a checkpoint and a model.
    assert [line["step"] for line in metrics(run)] == [5, 6]
    assert (run / "samples" / "step-00000006.png").is_file()
    assert states(run)["step-00000006/state.pt"]["step"] == 6
    assert AGITModel.from_pretrained(run / "model")


def test_patience_with_improvement_continues(
    images: Path, run: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    """Step 4 is better than step 2, so a patience of one validation reaches the end."""
    outcome = train(tmp_path / "run", VALIDATE | {"eval.patience": 1} | _places(images))
    assert (outcome.step, outcome.finished) == (5, True)
    assert metrics(tmp_path / "run") == metrics(run)
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()


def test_patience_resumed_continues_count(
    images: Path,
    train: Train,
    metrics: Metrics,
    states: States,
    interrupt_when: Callable[..., Any],
    assert_same: Callable[[Any, Any, str], None],
    tmp_path: Path,
) -> None:
    """Interrupted after one of two validations without a lower KID."""
    settings = STILL | _places(images)
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


def test_patience_exhausted_ends_resumed_run_unless_increased(
    images: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    settings = STILL | _places(images)
    assert train(run, settings).step == 6
    again = train(run, settings, resume=True)
    assert (again.step, again.finished) == (6, True) and _validated(metrics(run)) == [2, 4, 6]
    raised = train(run, settings | {"eval.patience": 3}, resume=True)
    assert (raised.step, raised.finished) == (8, True) and _validated(metrics(run)) == [2, 4, 6, 8]


@pytest.mark.slow
def test_patience_two_processes_ends_both(
    images: Path,
    arguments: Arguments,
    two_ranks: Callable[..., list[Process]],
    metrics: Metrics,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    ranks = two_ranks(arguments(run, STILL | {"eval.patience": 1} | _places(images)))
    outcomes = [rank.finish() for rank in ranks]
    assert [code for code, *_ in outcomes] == [0, 0], outcomes
    assert ["Stopped at step 4 of 20" in log for _, log, _ in outcomes] == [True, False]
    assert [line["step"] for line in metrics(run)] == [1, 2, 3, 4]
    assert (run / "checkpoints" / "step-00000004" / "rank-1.pt").is_file()


def test_validation_on_separate_folders(
    images: Path, train: Train, metrics: Metrics, tmp_path: Path
) -> None:
    valid = tmp_path / "valid"
    for seed, side in enumerate(("source", "target"), start=5):
        _paint(valid / side, seed, range(7))
    # An average of two steps: after one it still equals the last weights.
    settings = {"eval.steps": 9, "eval.max_images": 5, "train.max_steps": 2, "train.ema_decay": 0.5}
    settings |= _places(images) | _places(valid, "eval")
    run = tmp_path / "run"
    train(run, settings)
    assert metrics(run)[-1]["eval/step"] == 2  # the last step is always validated
    assert json.loads((run / "run.json").read_text())["images"] == {"source": 12, "target": 12}
    found = read_results(run)
    assert {m.dataset for m in found} == {"source (a folder)", "target (a folder)"}
    assert all("5 images" in m.protocol for m in found)
    # The validated and best weights are the published ones: the moving average.
    assert (run / "best/model.safetensors").read_bytes() == (run / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eval.steps": 2}, r"eval\.steps is 2.*eval\.holdout"),
        ({"eval.holdout": 1}, r"eval\.holdout is 1"),
        ({"eval.source.path": "a"}, "source.path and target.path"),
        ({"eval.target.path": "a"}, "source.path and target.path"),
        (
            {"eval.source.path": "a", "eval.target.path": "b", "eval.holdout": 3},
            r"holdout is 3 .*source\.path",
        ),
        ({"eval.max_images": 3}, r"eval\.max_images is 3"),
        ({"eval.patience": 2}, r"eval\.patience is 2 .*steps"),
        (VALIDATE | {"eval.patience": 0}, r"eval\.patience is 0"),
        (VALIDATE | {"eval.protocol": "lite1"}, "'lite1'.*'lite0'"),
        # One in ten of twelve is one.
        (VALIDATE | {"eval.holdout": 10}, r"eval: 1 .*too few.*one image in 10.*--eval.holdout"),
    ],
)
def test_invalid_validation_settings_raise_config_error(
    images: Path, configure: Configure, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(configure(tmp_path / "run", _places(images) | changes))
    assert not (tmp_path / "run").exists()


def test_damaged_held_out_images_exit_with_message(
    images: Path, arguments: Arguments, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Three of the four are left, and the reference needs four."""
    damaged = tmp_path / "damaged"
    shutil.copytree(images, damaged)
    whole = (damaged / "source" / "05.png").read_bytes()
    (damaged / "source" / "05.png").write_bytes(whole[: len(whole) // 2])
    assert main(arguments(tmp_path / "run", VALIDATE | _places(damaged))) in (1, 2)
    log = capsys.readouterr().err
    assert re.search("error: .*step 2.* 3 of 4", log)


@pytest.mark.slow
def test_validation_two_processes_runs_on_first(
    images: Path,
    arguments: Arguments,
    two_ranks: Callable[..., list[Process]],
    metrics: Metrics,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    ranks = two_ranks(arguments(run, VALIDATE | {"train.max_steps": 3} | _places(images)))
    outcomes = [rank.finish() for rank in ranks]
    assert [code for code, *_ in outcomes] == [0, 0], outcomes
    assert ["Step 2: KID " in log for _, log, _ in outcomes] == [True, False]
    assert [line.get("eval/step") for line in metrics(run)] == [None, 2, 3]
    assert AGITModel.from_pretrained(run / "best")
    assert json.loads((run / "best.json").read_text())["step"] in (2, 3)
