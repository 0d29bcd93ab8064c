"""`agit evaluate` and `agit compare`: results, files, and errors in one line."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from agit_hub.cli import app
from agit_hub.cli.evaluate import evaluate as evaluate_command
from agit_hub.training.config_loader import parse
from agit_hub.training.trainer import Trainer
from tests.cli.conftest import SHADE, STRIPED_MODEL, listing, paint
from tests.conftest import MakeModel
from tests.training.conftest import TINY

THERE, BACK = "horse to zebra", "zebra to horse"
Evaluate = Callable[..., Result]


def _agit(*arguments: Any) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def _metrics(report: Path, direction: str) -> dict[str, dict[str, Any]]:
    content = json.loads((report / "evaluation.json").read_text())
    return {m["metric"]: m for m in content["measurements"] if m["direction"] == direction}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images of each domain, and masks of their left four columns."""
    root = tmp_path_factory.mktemp("images")
    for number in range(12):
        paint(root / "horses" / f"{number:02}.png", shade=100, size=(16, 16))
        paint(root / "zebras" / f"{number:02}.png", shade=20 * number, size=(20, 16))
        for label, width in (("horse", 16), ("zebra", 20)):
            mask = np.zeros((16, width), np.uint8)
            mask[:, :4] = 255
            (root / "masks" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(root / "masks" / label / f"{number:02}.png")
    return root


def _train(folder: Path, images: Path, **changes: Any) -> Path:
    values = TINY | {
        "data.source.path": images / "horses",
        "data.target.path": images / "zebras",
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
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one recipe; the first with validation."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    _train(root / "one", images, eval__steps=1, eval__holdout=3)
    _train(root / "two", images, train__seed=1)
    return root


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained runs."""
    return Path(shutil.copytree(trained, tmp_path / "runs"))


@pytest.fixture
def evaluate(images: Path, model: Path, work: Path) -> Evaluate:
    """Run the command, by default on four images of each domain, without FID."""

    def run(*arguments: Any) -> Result:
        datasets = ["--source", images / "horses", "--target", images / "zebras"]
        defaults = ["--model", model, *datasets, "--limit", 4, "--no-fid"]
        return _agit("evaluate", *defaults, *arguments)

    return run


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """The output and the report of the demo model on shapes."""
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("shapes") / "report"
    datasets = ["--source", "shapes", "--target", "shapes", "--limit", 8]
    done = _agit("evaluate", "--model", STRIPED_MODEL, *datasets, "--no-fid", "--out", out)
    return done, out


@pytest.mark.slow
def test_evaluate_demo_model_on_shapes(shapes: tuple[Result, Path]) -> None:
    done, out = shapes
    assert done.exit_code == 0 and _says_what_is_measured(done)
    lines = done.stdout.strip().splitlines()
    assert lines[0].startswith("agit-shapes, protocol lite0")
    heads = [line for line in lines if "| direction | value | reference | baseline |" in line]
    assert [head.split(" |")[0] for head in heads] == [
        "| Translation",
        "| Attention",
        "| Background",
    ]
    titles = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert "KID (lower is better)" in titles and not [t for t in titles if t.startswith("FID")]
    assert "Classified as the target (higher is better)" in titles
    assert listing(out) == ["evaluation.json", "evaluation.md", "evaluation.png"]
    assert str(out / "evaluation.json") in done.stdout
    for direction in ("plain to striped", "striped to plain"):
        found = _metrics(out, direction)
        assert "fid" not in found
        assert all("8 images" in m["protocol"] for m in found.values())
        assert {m["dataset"] for m in found.values()} == {"shapes (built in)"}
        # The model was trained for this, so it beats the baselines.
        assert found["attention_iou"]["value"] > 2 * found["attention_iou"]["baseline"]
        assert found["target_accuracy"]["value"] > found["target_accuracy"]["baseline"]
        assert "small CNN" in found["target_accuracy"]["protocol"]
    _, _, tables = (out / "evaluation.md").read_text().partition("\n\n")
    assert tables.strip() in done.stdout


def test_evaluate_progress_bar_is_not_on_stdout(shapes: tuple[Result, Path]) -> None:
    """The output can be redirected to a file."""
    assert shapes[0].stdout.startswith("agit-shapes, protocol lite0")


def test_evaluate_two_folders_with_masks(evaluate: Evaluate, images: Path, work: Path) -> None:
    """To zebra everything becomes one grey; to horse nothing changes."""
    done = evaluate("--masks", images / "masks", "--out", "out", "--name", "ours")
    assert done.exit_code == 0 and _says_what_is_measured(done)
    there, back = (_metrics(work / "out", direction) for direction in (THERE, BACK))
    assert there["attention_iou"]["value"] == pytest.approx(4 / 16)
    assert there["background_change"]["value"] == pytest.approx((SHADE - 100) / 255)
    assert there["identical"]["value"] == 0
    assert (back["identical"]["value"], back["background_change"]["value"]) == (1, 0)
    assert back["attention_iou"]["value"] == 0
    assert back["attention_iou"]["baseline"] == pytest.approx(4 / 20)
    assert back["kid"]["value"] == back["kid"]["baseline"]
    assert there["kid"]["dataset"] == "horses (a folder)"
    text = (work / "out" / "evaluation.json").read_text()
    assert json.loads(text)["about"] == {
        "model": "model",
        "weights": "as published",
        "name": "ours",
    }
    assert str(images) not in text and str(work) not in text


def test_evaluate_side_resizes_images_first(evaluate: Evaluate, work: Path) -> None:
    assert evaluate("--side", 24, "--out", "out").exit_code == 0
    for direction in (THERE, BACK):
        assert "scaled to 24 pixels" in _metrics(work / "out", direction)["kid"]["protocol"]
    assert evaluate("--out", "own").exit_code == 0
    assert "at their own size" in _metrics(work / "own", THERE)["kid"]["protocol"]


def test_evaluate_without_out_writes_nothing_into_a_model_folder(
    evaluate: Evaluate, model: Path, work: Path
) -> None:
    before = listing(model)
    done = evaluate()
    assert done.exit_code == 0 and "KID (lower is better)" in done.stdout
    assert "Metrics:" not in done.stdout
    assert listing(model) == before and listing(work) == []


def test_evaluate_measures_fid_by_default(evaluate: Evaluate, work: Path) -> None:
    assert evaluate("--fid", "--out", "out").exit_code == 0
    back = _metrics(work / "out", BACK)
    assert back["fid"]["value"] == back["fid"]["baseline"]


def test_evaluate_threshold_applies_to_translations(
    evaluate: Evaluate, make_model: MakeModel, work: Path
) -> None:
    make_model(maps=(0.6, 0.0), shades=(SHADE, 50)).save_pretrained(work / "pale")
    for threshold, expected in ((0.7, 1), (0.5, 0)):
        done = evaluate("--model", "pale", "--threshold", threshold, "--out", "out")
        assert done.exit_code == 0
        assert _metrics(work / "out", THERE)["identical"]["value"] == expected


def test_evaluate_names_unreadable_images(evaluate: Evaluate, images: Path, work: Path) -> None:
    shutil.copytree(images / "horses", work / "some")
    whole = (work / "some" / "04.png").read_bytes()
    (work / "some" / "04.png").write_bytes(whole[: len(whole) // 2])
    # Of twelve these are the 1st, 3rd, 5th, 8th and 10th.
    done = evaluate("--source", "some", "--limit", 5)
    assert done.exit_code == 0
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("Skipped"))
    assert "unreadable: 04.png" in line


def test_evaluate_with_a_custom_classifier(
    evaluate: Evaluate, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "custom_classifier_of_the_test.py").write_text(
        "def bright(images, masks, label):\n"
        "    return [float(p.getpixel((0, 0))[0] == 200 and label == 'zebra') for p in images]\n"
    )
    monkeypatch.syspath_prepend(work)
    done = evaluate("--classifier", "custom_classifier_of_the_test:bright", "--out", "out")
    assert done.exit_code == 0, done.stderr
    found = _metrics(work / "out", THERE)["target_accuracy"]
    assert (found["value"], found["baseline"]) == (1, 0)
    assert _metrics(work / "out", BACK)["target_accuracy"]["value"] == 0


def test_evaluate_run_writes_its_report_and_card(
    evaluate: Evaluate, runs: Path, work: Path
) -> None:
    run = runs / "two"
    assert not (run / "measurements.json").exists()
    done = evaluate("--model", run)
    assert done.exit_code == 0 and _says_what_is_measured(done)
    report = run / "evaluation" / "last"
    assert listing(report) == ["evaluation.json", "evaluation.md", "evaluation.png"]
    content = json.loads((report / "evaluation.json").read_text())
    about = content["about"]
    assert (about["model"], about["weights"], about["steps"]) == ("two", "last", 2)
    assert about["settings"]["train"]["seed"] == 1
    assert json.loads((run / "measurements.json").read_text()) == content["measurements"]
    card = ["--out", "card", "--repo", "user/tiny", "--license", "mit"]
    assert _agit("push", run, *card).exit_code == 0
    text = (work / "card" / "README.md").read_text()
    for m in content["measurements"]:
        assert f"| {m['title']} | {m['direction']} | {m['value']:.4g} " in text


def test_evaluate_best_weights_writes_a_separate_report(evaluate: Evaluate, runs: Path) -> None:
    run = runs / "one"
    validation = (run / "measurements.json").read_bytes()
    assert evaluate("--model", run, "--weights", "best").exit_code == 0
    assert listing(run / "evaluation") == [
        f"best/evaluation.{ending}" for ending in ("json", "md", "png")
    ]
    about = json.loads((run / "evaluation/best/evaluation.json").read_text())["about"]
    assert about["weights"] == "best on validation"
    assert about["steps"] == json.loads((run / "best.json").read_text())["step"]
    # The card shows the last weights.
    assert (run / "measurements.json").read_bytes() == validation
    # A report in another folder does not change the run.
    assert evaluate("--model", run, "--out", run.parent / "elsewhere").exit_code == 0
    assert (run / "measurements.json").read_bytes() == validation


def test_evaluate_report_contains_no_path_of_the_machine(
    evaluate: Evaluate, images: Path, tmp_path: Path, work: Path
) -> None:
    valid = {
        f"eval__{side}__path": images / f"{label}s"
        for side, label in (("source", "horse"), ("target", "zebra"))
    }
    run = _train(tmp_path / "run", images, train__max_steps=1, **valid)
    assert evaluate("--model", run, "--out", "out").exit_code == 0
    text = (work / "out" / "evaluation.json").read_text()
    assert str(images) not in text


def test_compare_reads_runs_and_files(evaluate: Evaluate, runs: Path, work: Path) -> None:
    one, two = runs / "one", runs / "two"
    for run in (one, two):
        assert evaluate("--model", run).exit_code == 0
    done = _agit("compare", one, two, "--out", "table.md")
    assert (done.exit_code, done.stderr) == (0, "")
    assert (work / "table.md").read_text() == done.stdout
    runs_table, *_ = done.stdout.split("\n\n")
    rows = [[c.strip() for c in line.split("|")[1:-1]] for line in runs_table.splitlines()]
    assert [row[1:4] for row in rows[2:4]] == [["0", "last", "2"], ["1", "last", "2"]]
    assert "eval.steps 1" in rows[2][0] and "eval.steps None" in rows[3][0]
    _, _, translation = done.stdout.partition(f"Translation, {THERE}:\n\n")
    head, _, *lines = translation.splitlines()
    column = [cell.strip() for cell in head.split("|")].index("KID x100")
    for line, run in zip(lines[:2], (one, two), strict=True):
        kid = _metrics(run / "evaluation" / "last", THERE)["kid"]["value"]
        assert line.split("|")[column].strip() == f"{kid * 100:.2f}"
    files = [run / "evaluation" / "last" / "evaluation.json" for run in (one, two)]
    assert _agit("compare", *files).stdout == done.stdout


def test_compare_refuses_results_on_other_images(
    evaluate: Evaluate, images: Path, runs: Path
) -> None:
    assert evaluate("--model", runs / "one").exit_code == 0
    assert (
        evaluate(
            "--model", runs / "two", "--source", images / "zebras", "--target", images / "horses"
        ).exit_code
        == 0
    )
    _check_user_error(_agit("compare", runs / "one", runs / "two"), "two was measured on zebras")


def _says_what_is_measured(done: Result) -> bool:
    lines = done.stderr.splitlines()
    return len(lines) == 2 and all(line.startswith("Measuring on ") for line in lines)


def _check_user_error(done: Result, message: str) -> None:
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.exception
    *before, last = done.stderr.splitlines()
    assert done.stdout == "" and all(line.startswith("Measuring on ") for line in before)
    assert last.startswith("error: ") and message in last


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no/where"], "no/where"),
        (["--model", "empty"], "empty has no config.json"),
        (["--source", "./no/where/at/all"], "where/at/all"),
        (["--source", "empty"], "empty"),
        (["--source", "user/pair,splt=test"], "Did you mean 'split'"),
        (["--source", "user/pair,colour=red"], "unknown key 'colour'; known keys are name, split"),
        (["--source", "user/pair,masks=m"], "unknown key 'masks'"),
        (["--target", "shapes,plain"], "--target has 'plain'; settings are KEY=VALUE"),
        (["--target", "shapes,storage=maybe"], "storage"),
        (["--protocol", "lite1"], "'lite1'"),
        (["--protocol", "torchvision:resnet0"], "'resnet0'"),
        (["--weights", "newest"], "weights is 'newest'"),
        (["--weights", "best"], "only a run has best weights"),
        (["--masks", "nowhere"], "masks folder nowhere"),
        (["--masks", "empty"], "no mask for 00.png"),
        (["--limit", "3"], "limit is 3: too few"),
        (["--source", "shapes", "--target", "shapes"], "horse and zebra"),
        (["--classifier", "nowhere_at_all:thing"], "'nowhere_at_all:thing' cannot be imported"),
        (["--classifier", "json:nothing"], "'json:nothing' cannot be imported"),
        (["--classifier", "json"], "give MODULE:FUNCTION"),
        (["--classifier", ":dumps"], "give MODULE:FUNCTION"),
        (["--classifier", "json:decoder"], "json:decoder"),
        (["--device", "abacus"], "abacus"),
        (["--source", "tiny"], "too small"),
    ],
)  # fmt: skip
def test_evaluate_user_error_is_one_line_and_writes_nothing(
    evaluate: Evaluate, work: Path, arguments: list[str], message: str
) -> None:
    (work / "empty").mkdir()
    for number in range(4):
        paint(work / "tiny" / f"{number}.png", size=(10, 10))
    before = listing(work)
    _check_user_error(evaluate("--out", "out", *arguments), message)
    assert listing(work) == before


def test_evaluate_run_without_the_weights_is_a_user_error(evaluate: Evaluate, runs: Path) -> None:
    _check_user_error(evaluate("--model", runs / "two", "--weights", "best"), "has no best weights")
    shutil.rmtree(runs / "two" / "model")
    _check_user_error(evaluate("--model", runs / "two"), "holds no model yet")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere cannot be read"),
        ("empty", "empty holds no evaluation yet"),
        ("notes.json", "notes.json is no evaluation"),
    ],
)
def test_compare_of_missing_or_other_files_is_a_user_error(
    work: Path, name: str, message: str
) -> None:
    (work / "empty").mkdir()
    (work / "notes.json").write_text("[1, 2]")
    _check_user_error(_agit("compare", name), message)


def test_evaluate_part_of_a_run_is_that_run(evaluate: Evaluate, runs: Path) -> None:
    run = runs / "one"
    for part, weights in (("model/model.safetensors", "last"), ("best", "best on validation")):
        done = evaluate("--model", run / part)
        assert done.exit_code == 0, done.stderr
        report = run / "evaluation" / weights.split()[0] / "evaluation.json"
        about = json.loads(report.read_text())["about"]
        assert (about["model"], about["weights"]) == ("one", weights)
    by_part = _agit("compare", run / "model").stdout
    assert by_part == _agit("compare", run).stdout != ""


def test_evaluate_writes_its_report_before_it_prints(
    images: Path, model: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", buffering=1) as closed:
        monkeypatch.setattr(sys, "stdout", closed)
        with pytest.raises(typer.Exit) as end:
            evaluate_command(
                model=str(model),
                source=str(images / "horses"),
                target=str(images / "zebras"),
                limit=4,
                fid=False,
                out=work / "report",
            )
    assert end.value.exit_code == 141
    assert listing(work / "report") == ["evaluation.json", "evaluation.md", "evaluation.png"]


def test_evaluate_prints_in_any_encoding(images: Path, model: Path) -> None:
    datasets = ["--source", str(images / "horses"), "--target", str(images / "zebras")]
    command = ["evaluate", "--model", str(model), *datasets, "--limit", "4", "--no-fid"]
    done = CliRunner(charset="ascii").invoke(app, command)
    assert done.exit_code == 0 and "\\xb1" in done.stdout


def test_evaluate_checks_classifier_and_folder_before_the_images(
    evaluate: Evaluate, work: Path
) -> None:
    (work / "file").touch()
    for arguments, message in (
        (["--classifier", "nowhere_at_all:thing"], "cannot be imported"),
        (["--out", "file"], "--out is file: file is a file, not a folder"),
    ):
        _check_user_error(evaluate("--source", "./nowhere", *arguments), message)
