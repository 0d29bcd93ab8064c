"""`agit evaluate` and `agit compare`: models measured, figures where they belong, mistakes in a line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from agit_hub.cli import app
from agit_hub.training.config_loader import parse
from agit_hub.training.trainer import Trainer
from tests.cli.conftest import SHADE, STRIPED_MODEL, listing, paint
from tests.conftest import MakeModel
from tests.training.conftest import TINY

THERE, BACK = "horse to zebra", "zebra to horse"
Evaluate = Callable[..., Result]


def _agit(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _figures(report: Path, direction: str) -> dict[str, dict[str, Any]]:
    content = json.loads((report / "evaluation.json").read_text())
    return {m["metric"]: m for m in content["measurements"] if m["direction"] == direction}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of either domain, and masks of the horses: the left four columns of sixteen."""
    root = tmp_path_factory.mktemp("pictures")
    for number in range(12):
        paint(root / "horses" / f"{number:02}.png", shade=100, size=(16, 16))
        paint(root / "zebras" / f"{number:02}.png", shade=20 * number, size=(20, 16))
        for label, width in (("horse", 16), ("zebra", 20)):
            mask = np.zeros((16, width), np.uint8)
            mask[:, :4] = 255
            (root / "masks" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / "masks" / label / f"{number:02}.png")
    return root


def _train(folder: Path, pictures: Path, **changes: Any) -> Path:
    values = TINY | {
        "data.source.path": pictures / "horses",
        "data.target.path": pictures / "zebras",
        "model.source_label": "horse",
        "model.target_label": "zebra",
        "output_dir": folder,
        "train.max_steps": 2,
    }
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    arguments = [f"--{key}={'null' if v is None else v}" for key, v in values.items()]
    assert Trainer(parse(arguments).config).fit().finished
    return folder


@pytest.fixture(scope="module")
def trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one recipe; the first measured itself on its way."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    _train(root / "one", pictures, eval__every=1, eval__holdout=3)
    _train(root / "two", pictures, train__seed=1)
    return root


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of them to evaluate."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


@pytest.fixture
def evaluate(pictures: Path, model: Path, work: Path) -> Evaluate:
    """Run the command: by default on four pictures a side, with that model, without FID."""

    def run(*arguments: Any) -> Result:
        places = ["--source", pictures / "horses", "--target", pictures / "zebras"]
        defaults = ["--model", model, *places, "--limit", 4, "--no-fid"]
        return _agit("evaluate", *defaults, *arguments)

    return run


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The demo's model on drawings: what was said, and what was written."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("shapes") / "report"
    places = ["--source", "shapes", "--target", "shapes", "--limit", 8]
    done = _agit("evaluate", "--model", STRIPED_MODEL, *places, "--no-fid", "--out", out)
    return done, out


def test_the_demos_model_on_shapes(shapes: tuple[Result, Path]) -> None:
    done, out = shapes
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.strip().splitlines()
    assert lines[0].startswith("model, protocol lite0")
    (head,) = (line for line in lines if line.startswith("| |"))
    assert head == (
        "| | plain to striped | floor | doing nothing | striped to plain | floor | doing nothing |"
    )
    titles = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert "KID (lower is better)" in titles and not [t for t in titles if t.startswith("FID")]
    assert "Taken for the target's by a classifier (higher is better)" in titles
    assert listing(out) == ["evaluation.json", "evaluation.md", "evaluation.png"]
    assert str(out / "evaluation.json") in done.stdout
    for direction in ("plain to striped", "striped to plain"):
        found = _figures(out, direction)
        assert "fid" not in found
        assert all("8 pictures" in m["protocol"] for m in found.values())
        assert {m["dataset"] for m in found.values()} == {"shapes (built in)"}
        # It was trained for this, and so does better than one who does not look.
        assert found["attention_iou"]["value"] > 2 * found["attention_iou"]["ceiling"]
        assert found["taken_for_target"]["value"] > found["taken_for_target"]["ceiling"]
        assert "small CNN" in found["taken_for_target"]["protocol"]
    table = (out / "evaluation.md").read_text().split("\n\n")[1]
    assert table.strip() in done.stdout


def test_the_bar_leaves_nothing_on_standard_output(shapes: tuple[Result, Path]) -> None:
    """What is printed can be sent to a file as it is."""
    assert shapes[0].stdout.startswith("model, protocol lite0")


def test_two_folders_with_masks(evaluate: Evaluate, pictures: Path, work: Path) -> None:
    """Towards zebra all becomes one grey; towards horse nothing changes."""
    done = evaluate("--masks", pictures / "masks", "--out", "out", "--name", "ours")
    assert (done.exit_code, done.stderr) == (0, "")
    there, back = (_figures(work / "out", direction) for direction in (THERE, BACK))
    assert there["attention_iou"]["value"] == pytest.approx(4 / 16)
    assert there["background_change"]["value"] == pytest.approx((SHADE - 100) / 255)
    assert there["identical"]["value"] == 0
    assert (back["identical"]["value"], back["background_change"]["value"]) == (1, 0)
    assert back["attention_iou"]["value"] == 0
    assert back["attention_iou"]["ceiling"] == pytest.approx(4 / 20)
    assert back["kid"]["value"] == back["kid"]["ceiling"]
    assert there["kid"]["dataset"] == "horses (a folder)"
    text = (work / "out" / "evaluation.json").read_text()
    assert json.loads(text)["about"] == {
        "model": "model",
        "weights": "as published",
        "name": "ours",
    }
    assert str(pictures) not in text and str(work) not in text


def test_pictures_are_scaled_first_if_asked(evaluate: Evaluate, work: Path) -> None:
    assert evaluate("--side", 24, "--out", "out").exit_code == 0
    for direction in (THERE, BACK):
        assert "scaled to 24 pixels" in _figures(work / "out", direction)["kid"]["protocol"]
    assert evaluate("--out", "own").exit_code == 0
    assert "at their own size" in _figures(work / "own", THERE)["kid"]["protocol"]


def test_a_model_folder_gets_no_files_unless_asked(
    evaluate: Evaluate, model: Path, work: Path
) -> None:
    before = listing(model)
    done = evaluate()
    assert done.exit_code == 0 and "KID (lower is better)" in done.stdout
    assert "MeanMetrics:" not in done.stdout
    assert listing(model) == before and listing(work) == []


def test_fid_is_measured_unless_it_is_not_wanted(evaluate: Evaluate, work: Path) -> None:
    assert evaluate("--fid", "--out", "out").exit_code == 0
    back = _figures(work / "out", BACK)
    assert back["fid"]["value"] == back["fid"]["ceiling"]


def test_a_threshold_is_the_translations(
    evaluate: Evaluate, make_model: MakeModel, work: Path
) -> None:
    make_model(maps=(0.6, 0.0), shades=(SHADE, 50)).save_pretrained(work / "pale")
    for threshold, expected in ((0.7, 1), (0.5, 0)):
        done = evaluate("--model", "pale", "--threshold", threshold, "--out", "out")
        assert done.exit_code == 0
        assert _figures(work / "out", THERE)["identical"]["value"] == expected


def test_unreadable_pictures_are_named(evaluate: Evaluate, pictures: Path, work: Path) -> None:
    shutil.copytree(pictures / "horses", work / "some")
    whole = (work / "some" / "04.png").read_bytes()
    (work / "some" / "04.png").write_bytes(whole[: len(whole) // 2])
    # Of twelve these are the 1st, 3rd, 5th, 8th and 10th.
    done = evaluate("--source", "some", "--limit", 5)
    assert done.exit_code == 0
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("Left out"))
    assert line.startswith("Left out, for it cannot be read: 04.png")


def test_a_classifier_of_ones_own(
    evaluate: Evaluate, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "witness_of_the_test.py").write_text(
        "def bright(pictures, masks, label):\n"
        "    return [float(p.getpixel((0, 0))[0] == 200 and label == 'zebra') for p in pictures]\n"
    )
    monkeypatch.syspath_prepend(work)
    done = evaluate("--classifier", "witness_of_the_test:bright", "--out", "out")
    assert done.exit_code == 0, done.stderr
    found = _figures(work / "out", THERE)["taken_for_target"]
    assert (found["value"], found["ceiling"]) == (1, 0)
    assert _figures(work / "out", BACK)["taken_for_target"]["value"] == 0


def test_a_run_is_evaluated_and_its_card_shows_it(
    evaluate: Evaluate, runs: Path, work: Path
) -> None:
    run = runs / "two"
    assert not (run / "measurements.json").exists()
    done = evaluate("--model", run)
    assert (done.exit_code, done.stderr) == (0, "")
    report = run / "evaluation" / "last"
    assert listing(report) == ["evaluation.json", "evaluation.md", "evaluation.png"]
    content = json.loads((report / "evaluation.json").read_text())
    about = content["about"]
    assert (about["model"], about["weights"], about["steps"]) == ("two", "last", 2)
    assert about["settings"]["train"]["seed"] == 1
    assert json.loads((run / "measurements.json").read_text()) == content["measurements"]
    card = ["--out", "card", "--repo", "user/tiny", "--license", "mit"]
    assert _agit("card", run, *card).exit_code == 0
    text = (work / "card" / "README.md").read_text()
    for m in content["measurements"]:
        assert f"| {m['title']} | {m['direction']} | {m['value']:.4g} |" in text


def test_picked_weights_have_a_report_of_their_own(evaluate: Evaluate, runs: Path) -> None:
    run = runs / "one"
    on_the_way = (run / "measurements.json").read_bytes()
    assert evaluate("--model", run, "--weights", "picked").exit_code == 0
    assert listing(run / "evaluation") == [
        f"picked/evaluation.{ending}" for ending in ("json", "md", "png")
    ]
    about = json.loads((run / "evaluation/picked/evaluation.json").read_text())["about"]
    assert about["weights"] == "picked on validation"
    assert about["steps"] == json.loads((run / "picked.json").read_text())["step"]
    # The card is that of the last weights.
    assert (run / "measurements.json").read_bytes() == on_the_way
    # A report that is put elsewhere is not the run's own.
    assert evaluate("--model", run, "--out", run.parent / "elsewhere").exit_code == 0
    assert (run / "measurements.json").read_bytes() == on_the_way


def test_a_report_tells_no_path_of_the_machine(
    evaluate: Evaluate, pictures: Path, tmp_path: Path, work: Path
) -> None:
    valid = {
        f"eval__{side}__path": pictures / f"{label}s"
        for side, label in (("source", "horse"), ("target", "zebra"))
    }
    run = _train(tmp_path / "run", pictures, train__max_steps=1, **valid)
    assert evaluate("--model", run, "--out", "out").exit_code == 0
    text = (work / "out" / "evaluation.json").read_text()
    assert str(pictures) not in text


def test_runs_are_compared(evaluate: Evaluate, runs: Path, work: Path) -> None:
    one, two = runs / "one", runs / "two"
    for run in (one, two):
        assert evaluate("--model", run).exit_code == 0
    done = _agit("compare", one, two, "--out", "table.md")
    assert (done.exit_code, done.stderr) == (0, "")
    assert (work / "table.md").read_text() == done.stdout
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in done.stdout.splitlines()]
    assert [row[1:4] for row in rows[2:4]] == [["0", "last", "2"], ["1", "last", "2"]]
    assert "eval.steps 1" in rows[2][0] and "eval.steps None" in rows[3][0]
    columns = {head: number for number, head in enumerate(rows[0])}
    for row, run in zip(rows[2:4], (one, two), strict=True):
        kid = _figures(run / "evaluation" / "last", THERE)["kid"]["value"]
        assert row[columns[f"KID x100, {THERE}"]] == f"{kid * 100:.2f}"
    files = [run / "evaluation" / "last" / "evaluation.json" for run in (one, two)]
    assert _agit("compare", *files).stdout == done.stdout


def test_what_was_measured_on_other_pictures_is_not_compared(
    evaluate: Evaluate, pictures: Path, runs: Path
) -> None:
    assert evaluate("--model", runs / "one").exit_code == 0
    assert evaluate("--model", runs / "two", "--source", pictures / "zebras").exit_code == 0
    _check_mistake(_agit("compare", runs / "one", runs / "two"), "two was measured on zebras (a")


def _check_mistake(done: Result, said: str) -> None:
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.exception
    assert done.stdout == "" and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "no/where"], "no/where is no folder here"),
        (["--model", "empty"], "empty has no config.json"),
        (["--source", "./no/where/at/all"], "where/at/all does not exist"),
        (["--source", "empty"], "holds no images"),
        (["--source", "user/pair,colour=red"], "unknown key 'colour'. Did you mean 'column'?"),
        (["--target", "shapes,plain"], "--target holds 'plain'; settings are KEY=VALUE"),
        (["--target", "shapes,storage=maybe"], "storage is 'maybe'"),
        (["--protocol", "lite1"], "There is no protocol 'lite1'"),
        (["--protocol", "torchvision:resnet0"], "torchvision has no classifier 'resnet0'"),
        (["--weights", "best"], "weights is 'best'; expected last or picked"),
        (["--weights", "picked"], "is no run folder: only a run has weights to pick among"),
        (["--masks", "nowhere"], "There is no folder of masks nowhere"),
        (["--masks", "empty"], "empty holds no mask for 00.png"),
        (["--limit", "3"], "too few to measure anything by"),
        (["--source", "shapes", "--target", "shapes"], "The model translates between horse and zebra"),
        (["--classifier", "nowhere_at_all:thing"], "'nowhere_at_all:thing' cannot be had"),
        (["--classifier", "json:nothing"], "'json:nothing' cannot be had"),
        (["--classifier", "json"], "give MODULE:FUNCTION"),
        (["--classifier", ":dumps"], "give MODULE:FUNCTION"),
        (["--classifier", "json:decoder"], "json:decoder"),
        (["--device", "abacus"], "abacus"),
        (["--source", "tiny"], "too small"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_a_line(
    evaluate: Evaluate, work: Path, arguments: list[str], said: str
) -> None:
    (work / "empty").mkdir()
    for number in range(4):
        paint(work / "tiny" / f"{number}.png", size=(10, 10))
    before = listing(work)
    _check_mistake(evaluate("--out", "out", *arguments), said)
    assert listing(work) == before


def test_a_run_without_picked_weights_or_any(evaluate: Evaluate, runs: Path) -> None:
    _check_mistake(
        evaluate("--model", runs / "two", "--weights", "picked"), "has no picked weights"
    )
    shutil.rmtree(runs / "two" / "model")
    _check_mistake(evaluate("--model", runs / "two"), "holds no model yet")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "nowhere cannot be read: No such file"),
        ("empty", "empty holds no evaluation yet"),
        ("notes.json", "notes.json is no evaluation"),
    ],
)
def test_what_cannot_be_compared(work: Path, name: str, said: str) -> None:
    (work / "empty").mkdir()
    (work / "notes.json").write_text("[1, 2]")
    _check_mistake(_agit("compare", name), said)
