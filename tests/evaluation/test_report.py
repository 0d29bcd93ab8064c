"""What an evaluation leaves on disk, and several of them in one table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.compare import compare, find_records
from agit_hub.evaluation.evaluator import Evaluation
from agit_hub.evaluation.report import Record, as_table, page_of_pictures, read_record, write_report
from agit_hub.evaluation.results import MetricResult
from agit_hub.evaluation.summary import PictureResult

THERE, BACK = "horse to zebra", "zebra to horse"
Colour = tuple[int, int, int]


def _measured(metric: str, value: float, direction: str = THERE, **more: Any) -> MetricResult:
    known = {"dataset": "pairs", "split": "test", "protocol": "by hand"} | more
    return MetricResult(metric, f"The {metric}", value, direction=direction, **known)


def _result(number: int, direction: str = THERE, **figures: float) -> PictureResult:
    """Its input has a colour of its own; map, translation and mask are black."""
    side = (128, 128)
    shown = [Image.new("RGB", side, _colour(number, direction))]
    shown += [Image.new("RGB", side)] * 3
    return PictureResult(f"{number}.png", direction, dict(figures), tuple(shown))


def _colour(number: int, direction: str) -> Colour:
    return (100 + number, 7, 200 if direction == THERE else 150)


def _evaluation(pictures: Sequence[PictureResult] = ()) -> Evaluation:
    measurements = [
        _measured("kid", 0.0125, floor=0.001, ceiling=0.25, std=0.5, standard_error=0.0021),
        _measured("kid", -0.5, BACK),
        _measured("identical", 1 / 3, BACK, ceiling=1.0),
    ]
    results = list(pictures) or [
        _result(number, direction, target_similarity=number / 7)
        for direction in (THERE, BACK)
        for number in range(4)
    ]
    return Evaluation("colours by hand", measurements, results, ["bad.png (damaged)"])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    evaluation = _evaluation()
    about = {"model": "run-1", "weights": "last", "steps": 7, "settings": {"train": {"seed": 3}}}
    folder = tmp_path / "deep" / "er"
    write_report(folder, evaluation, about)
    assert read_record(folder / "evaluation.json") == Record(about, evaluation.measurements)
    content = json.loads((folder / "evaluation.json").read_text())
    assert (content["protocol"], content["unreadable"]) == (
        "colours by hand",
        ["bad.png (damaged)"],
    )
    assert len(content["pictures"]) == 8
    assert content["pictures"][1] == {
        "name": "1.png",
        "direction": THERE,
        "target_similarity": pytest.approx(1 / 7, abs=1e-6),
    }
    text = (folder / "evaluation.md").read_text()
    assert text.startswith("Protocol colours by hand.\n\n| | horse to zebra | floor |")
    assert as_table(evaluation.measurements) in text
    with Image.open(folder / "evaluation.png") as page:
        assert page.width > 8 * 128


def test_the_table() -> None:
    assert as_table(_evaluation().measurements).splitlines() == [
        "| | horse to zebra | floor | doing nothing | zebra to horse | floor | doing nothing |",
        "|---|---|---|---|---|---|---|",
        "| The kid | 0.0125 ± 0.0021 | 0.001 | 0.25 | -0.5 |  |  |",
        "| The identical |  |  |  | 0.3333 |  | 1 |",
    ]


def _column(page: Image.Image, direction: str) -> list[int]:
    """The numbers of the pictures down the column of a direction's inputs."""
    known = {_colour(number, direction): number for number in range(50)}
    for x in range(0, page.width, 64):
        found: list[int] = []
        for y in range(page.height):
            number = known.get(page.getpixel((x, y)))  # type: ignore[arg-type]
            if number is not None and found[-1:] != [number]:
                found.append(number)
        if found:
            return found
    return []


@pytest.mark.parametrize("metric", ["attention_iou", "target_similarity"])
def test_the_page_shows_best_worst_and_others(metric: str) -> None:
    """Nine pictures are three best, three worst, and the rest in any order."""
    order = [4, 8, 0, 2, 6, 1, 5, 7, 3]
    results = [_result(number, THERE, **{metric: number / 10}) for number in order]
    # The other direction's come the other way around.
    results += [_result(number, BACK, **{metric: -number / 10}) for number in order]
    page = page_of_pictures(results)
    shown = _column(page, THERE)
    assert (shown[:3], shown[3:6]) == ([8, 7, 6], [2, 1, 0])
    assert sorted(shown[6:]) == [3, 4, 5]
    shown = _column(page, BACK)
    assert (shown[:3], shown[3:6], sorted(shown[6:])) == ([0, 1, 2], [6, 7, 8], [3, 4, 5])


def test_overlap_with_objects_counts_more_than_likeness() -> None:
    results = [_result(n, attention_iou=n / 10, target_similarity=-n) for n in range(6)]
    assert _column(page_of_pictures(results), THERE)[:4] == [5, 4, 1, 0]


def test_the_page_of_many_shows_four_of_each() -> None:
    page = page_of_pictures([_result(number, target_similarity=number) for number in range(30)])
    shown = _column(page, THERE)
    assert (shown[:4], shown[4:8], len(shown)) == ([29, 28, 27, 26], [3, 2, 1, 0], 12)
    assert len(set(shown)) == 12
    # The same pictures every time, so that two models can be laid side by side.
    again = page_of_pictures([_result(number, target_similarity=number) for number in range(30)])
    assert again.tobytes() == page.tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "3",
        '{"about": {}}',
        '{"measurements": []}',
        '{"about": {}, "measurements": [{"metric": "kid"}]}',
        '{"about": {}, "measurements": [3]}',
    ],
)
def test_what_is_no_evaluation(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=r"evaluation\.json is no evaluation") as refusal:
        read_record(path)
    assert "\n" not in str(refusal.value)


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="cannot be read: No such file"):
        read_record(tmp_path / "evaluation.json")
    with pytest.raises(EvaluationError, match="holds no evaluation yet: agit evaluate --model"):
        find_records([tmp_path])


def _record(
    model: str,
    kid: float,
    settings: Mapping[str, Any] | None = None,
    weights: str = "last",
    **more: Any,
) -> Record:
    """A run's: figures of one direction, with the same floor and doing nothing for all."""
    about = {"model": model, "weights": weights, "steps": 70, "minutes": 12.4}
    if settings is not None:
        about["settings"] = settings
    measurements = [
        _measured("kid", kid, floor=0.001, ceiling=0.123, **more),
        _measured("identical", 10 * kid, **more),
        _measured("cycle_error", 0.5, **more),  # not among what is shown
    ]
    return Record(about, measurements)


def _settings(seed: int, weight: float = 10, **more: Any) -> dict[str, Any]:
    return {"train": {"seed": seed, "lambda_cyc": weight, "epochs": 3}, "model": more}


def _rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]


def test_seeds_are_grouped_by_what_else_was_set() -> None:
    records = [
        _record("a", 0.02, _settings(0)),
        _record("b", 0.03, _settings(0, 5)),
        _record("c", 0.04, _settings(1)),
        _record("d", 0.05, _settings(1, 5)),
    ]
    head, dashes, *rows = _rows(compare(records))
    assert head == [
        *("run", "seed", "weights", "steps", "minutes"),
        *("KID x100, horse to zebra", "identical, horse to zebra"),
    ]
    assert dashes == ["---"] * 7
    # Deviations of (2, 4) and of (0.2, 0.4) from their means, by n - 1: the roots of 2 and of 0.02.
    assert rows == [
        ["train.lambda_cyc 10", "0", "last", "70", "12", "2.00", "0.200"],
        ["train.lambda_cyc 10", "1", "last", "70", "12", "4.00", "0.400"],
        ["**train.lambda_cyc 10**", "mean of 2", "last", "", "", "**3.00** ± 1.41", "**0.300** ± 0.141"],
        ["train.lambda_cyc 5", "0", "last", "70", "12", "3.00", "0.300"],
        ["train.lambda_cyc 5", "1", "last", "70", "12", "5.00", "0.500"],
        ["**train.lambda_cyc 5**", "mean of 2", "last", "", "", "**4.00** ± 1.41", "**0.400** ± 0.141"],
        ["*doing nothing*", "", "", "", "", "12.30", ""],
        ["*floor*", "", "", "", "", "0.10", ""],
    ]  # fmt: skip


def test_names_hold_every_setting_that_differs_and_no_other() -> None:
    records = [
        _record("a", 0.02, _settings(0, 5, blocks=2)),
        _record("b", 0.03, _settings(0, 10, blocks=2)),
        _record("c", 0.03, _settings(0, 10, blocks=3)),
    ]
    assert [row[0] for row in _rows(compare(records))[2:5]] == [
        "model.blocks 2, train.lambda_cyc 5",
        "model.blocks 2, train.lambda_cyc 10",
        "model.blocks 3, train.lambda_cyc 10",
    ]


def test_seeds_of_one_recipe_alone_are_grouped_too() -> None:
    """Their folders have different names, and nothing but the seed tells them apart."""
    records = [_record(f"seed-{seed}", 0.01 * seed, _settings(seed)) for seed in (1, 2, 3)]
    rows = _rows(compare(records))[2:-2]
    assert len(rows) == 4
    assert rows[-1][1] == "mean of 3" and rows[-1][5] == "**2.00** ± 1.00"


def test_last_and_picked_weights_are_kept_apart() -> None:
    picked = "picked on validation"
    records = [
        _record("a", 0.02, _settings(0) | {"data": 1}),
        _record("a", 0.01, _settings(0) | {"data": 1}, picked),
        _record("b", 0.04, _settings(1) | {"data": 1}),
        _record("b", 0.03, _settings(1) | {"data": 1}, picked),
        _record("c", 0.09, _settings(1) | {"data": 2}),
    ]
    rows = _rows(compare(records))
    means = [row for row in rows if row[1].startswith("mean")]
    assert [(row[2], row[5]) for row in means] == [
        ("last", "**3.00** ± 1.41"),
        (picked, "**2.00** ± 1.41"),
    ]


def test_given_names_win() -> None:
    records = [
        Record({"name": "ours", **record.about}, record.measurements)
        for record in (_record("a", 0.02, _settings(0)), _record("b", 0.04, _settings(1, 5)))
    ]
    assert [row[0] for row in _rows(compare(records))[2:5]] == ["ours", "ours", "**ours**"]


def test_models_without_a_run_go_by_their_names() -> None:
    records = [_record("user/one", 0.02, weights="as published"), _record("user/two", 0.04)]
    assert [row[0] for row in _rows(compare(records))[2:4]] == ["user/one", "user/two"]


def test_a_run_beside_a_published_model_goes_by_its_name() -> None:
    records = [_record("user/one", 0.02, weights="as published"), _record("b", 0.04, _settings(0))]
    assert [row[0] for row in _rows(compare(records))[2:4]] == ["user/one", "b"]


def test_what_one_run_was_not_measured_for_stays_empty() -> None:
    one = Record({"model": "a"}, [_measured("kid", 0.02), _measured("attention_iou", 0.6)])
    other = Record({"model": "b"}, [_measured("kid", 0.03), _measured("kid", 0.04, BACK)])
    head, _, *rows = _rows(compare([one, other]))
    assert head[5:] == [
        *(f"KID x100, {direction}" for direction in (THERE, BACK)),
        *(f"IoU at 0.5, {direction}" for direction in (THERE, BACK)),
    ]
    assert [row[5:] for row in rows[:2]] == [["2.00", "", "0.600", ""], ["3.00", "4.00", "", ""]]
    # Nobody measured what doing nothing is, nor a floor.
    assert [row[5:] for row in rows[2:]] == [[""] * 4] * 2


def test_a_mean_is_of_all_seeds_or_of_none() -> None:
    one, other = _record("a", 0.02, _settings(0)), _record("b", 0.04, _settings(1))
    third = _record("c", 0.03, _settings(0, 5))
    partly = Record(other.about, other.measurements[:1])  # measured for KID alone
    (mean,) = (row for row in _rows(compare([one, partly, third])) if row[1] == "mean of 2")
    assert mean[5:] == ["**3.00** ± 1.41", ""]


@pytest.mark.parametrize("key", ["protocol", "dataset", "split"])
def test_what_was_measured_otherwise_is_not_compared(key: str) -> None:
    one, other = _record("a", 0.02), _record("b", 0.04, **{key: "another one"})
    with pytest.raises(EvaluationError, match=r"b was measured on .*another one") as refusal:
        compare([one, other])
    assert "evaluate all of them alike" in str(refusal.value)


def test_a_run_folder_holds_its_evaluations(tmp_path: Path) -> None:
    for weights in ("picked", "last"):
        write_report(tmp_path / "run" / "evaluation" / weights, _evaluation(), {"weights": weights})
    found = find_records([tmp_path / "run", tmp_path / "run" / "evaluation/last/evaluation.json"])
    assert [record.about["weights"] for record in found] == ["last", "picked", "last"]
    assert found[0].measurements == _evaluation().measurements
