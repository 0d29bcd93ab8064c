"""Reports on disk, and comparisons of several."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.compare import compare, find_records
from agit_hub.evaluation.evaluator import Evaluation
from agit_hub.evaluation.report import (
    Record,
    read_record,
    results_tables,
    sample_sheet,
    write_report,
)
from agit_hub.evaluation.results import MetricResult
from agit_hub.evaluation.summary import ImageResult

THERE, BACK = "horse to zebra", "zebra to horse"
Colour = tuple[int, int, int]


def _measured(metric: str, value: float, direction: str = THERE, **more: Any) -> MetricResult:
    known = {"dataset": "pairs", "split": "test", "protocol": "by hand"} | more
    return MetricResult(metric, f"The {metric}", value, direction=direction, **known)


def _result(number: int, direction: str = THERE, **metrics: float) -> ImageResult:
    """Return a result whose input has a unique colour; map, translation and mask are black."""
    side = (128, 128)
    thumbnails = [Image.new("RGB", side, _colour(number, direction))]
    thumbnails += [Image.new("RGB", side)] * 3
    return ImageResult(f"{number}.png", direction, dict(metrics), tuple(thumbnails))


def _colour(number: int, direction: str) -> Colour:
    return (100 + number, 7, 200 if direction == THERE else 150)


def _evaluation() -> Evaluation:
    measurements = [
        _measured("kid", 0.0125, reference=0.001, baseline=0.25, std=0.5, standard_error=0.0021),
        _measured("kid", -0.5, BACK),
        _measured("identical", 1 / 3, BACK, baseline=1.0),
    ]
    images = [
        _result(number, direction, target_similarity=number / 7)
        for direction in (THERE, BACK)
        for number in range(4)
    ]
    return Evaluation("colours by hand", measurements, images, ["bad.png (damaged)"], [])


def test_write_report_is_read_by_read_record(tmp_path: Path) -> None:
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
    assert len(content["images"]) == 8
    assert content["images"][1] == {
        "name": "1.png",
        "direction": THERE,
        "target_similarity": pytest.approx(1 / 7, abs=1e-6),
    }
    text = (folder / "evaluation.md").read_text()
    assert text.startswith("Protocol colours by hand.\n\n| Translation | direction |")
    assert results_tables(evaluation.measurements) in text
    with Image.open(folder / "evaluation.png") as page:
        assert page.width > 8 * 128


def test_results_tables_have_a_table_for_each_topic() -> None:
    assert results_tables(_evaluation().measurements).splitlines() == [
        "| Translation | direction | value | reference | baseline |",
        "|---|---|---|---|---|",
        "| The kid | horse to zebra | 0.0125 ± 0.0021 | 0.001 | 0.25 |",
        "| The kid | zebra to horse | -0.5 |  |  |",
        "",
        "| Background | direction | value | reference | baseline |",
        "|---|---|---|---|---|",
        "| The identical | zebra to horse | 0.3333 |  | 1 |",
    ]


def test_results_tables_keep_metrics_without_a_topic() -> None:
    last = results_tables([_measured("kid", 1.0), _measured("sharpness", 2.0)]).splitlines()[-1]
    assert last == "| The sharpness | horse to zebra | 2 |  |  |"


def _column(page: Image.Image, direction: str) -> list[int]:
    """Return the numbers of the images in the column of a direction's inputs."""
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
def test_sample_sheet_shows_best_worst_and_random_images(metric: str) -> None:
    """Of nine images three are best and three worst."""
    order = [4, 8, 0, 2, 6, 1, 5, 7, 3]
    results = [_result(number, THERE, **{metric: number / 10}) for number in order]
    # In reverse order.
    results += [_result(number, BACK, **{metric: -number / 10}) for number in order]
    page = sample_sheet(results)
    shown = _column(page, THERE)
    assert (shown[:3], shown[3:6]) == ([8, 7, 6], [2, 1, 0])
    assert sorted(shown[6:]) == [3, 4, 5]
    shown = _column(page, BACK)
    assert (shown[:3], shown[3:6], sorted(shown[6:])) == ([0, 1, 2], [6, 7, 8], [3, 4, 5])


def test_sample_sheet_prefers_iou_to_target_similarity() -> None:
    results = [_result(n, attention_iou=n / 10, target_similarity=-n) for n in range(6)]
    assert _column(sample_sheet(results), THERE)[:4] == [5, 4, 1, 0]


def test_sample_sheet_shows_at_most_four_of_each() -> None:
    page = sample_sheet([_result(number, target_similarity=number) for number in range(30)])
    shown = _column(page, THERE)
    assert (shown[:4], shown[4:8], len(shown)) == ([29, 28, 27, 26], [3, 2, 1, 0], 12)
    assert len(set(shown)) == 12
    # The same images each time, so that models can be compared side by side.
    again = sample_sheet([_result(number, target_similarity=number) for number in range(30)])
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
def test_read_record_refuses_other_json(tmp_path: Path, text: str) -> None:
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=r"evaluation\.json is no evaluation") as raised:
        read_record(path)
    assert "\n" not in str(raised.value)


def test_read_record_and_find_records_name_missing_files(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"evaluation\.json cannot be read"):
        read_record(tmp_path / "evaluation.json")
    with pytest.raises(EvaluationError, match=r"no evaluation yet.*agit evaluate"):
        find_records([tmp_path])


def _record(
    model: str,
    kid: float,
    settings: Mapping[str, Any] | None = None,
    weights: str = "last",
    **more: Any,
) -> Record:
    """Return a run's results in one direction, with the same reference and baseline for all."""
    about = {"model": model, "weights": weights, "steps": 70, "minutes": 12.4}
    if settings is not None:
        about["settings"] = settings
    measurements = [
        _measured("kid", kid, reference=0.001, baseline=0.123, **more),
        _measured("identical", 10 * kid, **more),
        _measured("cycle_error", 0.5, **more),  # not shown by `compare`
    ]
    return Record(about, measurements)


def _settings(seed: int, weight: float = 10, **more: Any) -> dict[str, Any]:
    return {"train": {"seed": seed, "lambda_cyc": weight, "epochs": 3}, "model": more}


def _tables(text: str) -> dict[str, list[list[str]]]:
    """Parse the tables of `compare` by title, without the lines of dashes."""
    tables: dict[str, list[list[str]]] = {}
    title = "runs"
    for line in text.splitlines():
        if line.endswith(":"):
            title = line[:-1]
        elif line.startswith("|") and not line.startswith("|---"):
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            assert len(cells) <= 5
            tables.setdefault(title, []).append(cells)
    return tables


def _kids(records: Sequence[Record]) -> list[list[str]]:
    """Return the rows of KID without the heading."""
    return _tables(compare(records))[f"Translation, {THERE}"][1:]


def test_compare_groups_seeds_by_their_other_settings() -> None:
    records = [
        _record("a", 0.02, _settings(0)),
        _record("b", 0.03, _settings(0, 5)),
        _record("c", 0.04, _settings(1)),
        _record("d", 0.05, _settings(1, 5)),
    ]
    ten, five = "train.lambda_cyc 10", "train.lambda_cyc 5"
    # Deviations of (2, 4) and of (0.2, 0.4) from their means, by n - 1: the roots of 2 and of 0.02.
    assert _tables(compare(records)) == {
        "runs": [
            ["run", "seed", "weights", "steps", "minutes"],
            [ten, "0", "last", "70", "12"],
            [ten, "1", "last", "70", "12"],
            [five, "0", "last", "70", "12"],
            [five, "1", "last", "70", "12"],
        ],
        f"Translation, {THERE}": [
            ["run", "seed", "KID x100"],
            [ten, "0", "2.00"],
            [ten, "1", "4.00"],
            [f"**{ten}**", "mean of 2", "**3.00** ± 1.41"],
            [five, "0", "3.00"],
            [five, "1", "5.00"],
            [f"**{five}**", "mean of 2", "**4.00** ± 1.41"],
            ["*baseline*", "", "12.30"],
            ["*reference*", "", "0.10"],
        ],
        f"Background, {THERE}": [
            ["run", "seed", "identical"],
            [ten, "0", "0.200"],
            [ten, "1", "0.400"],
            [f"**{ten}**", "mean of 2", "**0.300** ± 0.141"],
            [five, "0", "0.300"],
            [five, "1", "0.500"],
            [f"**{five}**", "mean of 2", "**0.400** ± 0.141"],
        ],
    }


def test_compare_names_runs_by_the_settings_that_differ() -> None:
    records = [
        _record("a", 0.02, _settings(0, 5, blocks=2)),
        _record("b", 0.03, _settings(0, 10, blocks=2)),
        _record("c", 0.03, _settings(0, 10, blocks=3)),
    ]
    assert [row[0] for row in _kids(records)[:3]] == [
        "model.blocks 2, train.lambda_cyc 5",
        "model.blocks 2, train.lambda_cyc 10",
        "model.blocks 3, train.lambda_cyc 10",
    ]


def test_compare_names_runs_of_unlike_recipes_by_their_models() -> None:
    """Six settings differ; the seeds of one recipe share the first one's name."""
    many = dict.fromkeys("abcdef", 1)
    records = [
        _record("gpu", 0.02, _settings(0, **many)),
        _record("gpu-seed1", 0.04, _settings(1, **many)),
        _record("cpu", 0.03, _settings(0, **dict.fromkeys(many, 2))),
    ]
    rows = _kids(records)[:4]
    assert [row[:2] for row in rows] == [
        ["gpu", "0"],
        ["gpu", "1"],
        ["**gpu**", "mean of 2"],
        ["cpu", "0"],
    ]


def test_compare_groups_the_seeds_of_a_single_recipe() -> None:
    """Their folders have different names, and only the seed differs."""
    records = [_record(f"seed-{seed}", 0.01 * seed, _settings(seed)) for seed in (1, 2, 3)]
    rows = _kids(records)[:-2]
    assert len(rows) == 4
    assert rows[-1][1:] == ["mean of 3", "**2.00** ± 1.00"]


def test_compare_separates_last_and_best_weights() -> None:
    best = "best on validation"
    records = [
        _record("a", 0.02, _settings(0) | {"data": 1}),
        _record("a", 0.01, _settings(0) | {"data": 1}, best),
        _record("b", 0.04, _settings(1) | {"data": 1}),
        _record("b", 0.03, _settings(1) | {"data": 1}, best),
        _record("c", 0.09, _settings(1) | {"data": 2}),
    ]
    means = [row for row in _kids(records) if row[1].startswith("mean")]
    assert means == [
        ["**data 1**, last", "mean of 2", "**3.00** ± 1.41"],
        [f"**data 1**, {best}", "mean of 2", "**2.00** ± 1.41"],
    ]
    runs = _tables(compare(records))["runs"]
    assert [row[2] for row in runs[1:]] == ["last", best, "last", best, "last"]


def test_compare_prefers_explicit_names() -> None:
    records = [
        Record({"name": "ours", **record.about}, record.measurements)
        for record in (_record("a", 0.02, _settings(0)), _record("b", 0.04, _settings(1, 5)))
    ]
    assert [row[0] for row in _kids(records)[:3]] == ["ours", "ours", "**ours**"]


def test_compare_names_published_models_by_their_repo() -> None:
    records = [_record("user/one", 0.02), _record("user/two", 0.04)]
    assert [row[0] for row in _kids(records)[:2]] == ["user/one", "user/two"]


def test_compare_names_a_single_run_beside_a_published_model() -> None:
    records = [_record("user/one", 0.02), _record("b", 0.04, _settings(0))]
    assert [row[0] for row in _kids(records)[:2]] == ["user/one", "b"]


def test_compare_leaves_cells_of_missing_metrics_empty() -> None:
    first = Record({"model": "a"}, [_measured("kid", 0.02), _measured("attention_iou", 0.6)])
    second = Record({"model": "b"}, [_measured("kid", 0.03), _measured("kid", 0.04, BACK)])
    tables = _tables(compare([first, second]))
    assert tables[f"Translation, {THERE}"][1:3] == [["a", "", "2.00"], ["b", "", "3.00"]]
    assert tables[f"Translation, {BACK}"][1:3] == [["a", "", ""], ["b", "", "4.00"]]
    assert tables[f"Attention, {THERE}"] == [
        ["run", "seed", "IoU at 0.5"],
        ["a", "", "0.600"],
        ["b", "", ""],
    ]
    assert f"Attention, {BACK}" not in tables


def test_compare_averages_only_metrics_of_all_seeds() -> None:
    first, second = _record("a", 0.02, _settings(0)), _record("b", 0.04, _settings(1))
    third = _record("c", 0.03, _settings(0, 5))
    partly = Record(second.about, second.measurements[:1])  # KID alone
    tables = _tables(compare([first, partly, third]))
    for topic, expected in (("Translation", "**3.00** ± 1.41"), ("Background", "")):
        (mean,) = (row for row in tables[f"{topic}, {THERE}"] if row[1] == "mean of 2")
        assert mean[2] == expected


@pytest.mark.parametrize("key", ["protocol", "dataset", "split"])
def test_compare_refuses_results_of_other_conditions(key: str) -> None:
    first, second = _record("a", 0.02), _record("b", 0.04, **{key: "another one"})
    with pytest.raises(EvaluationError, match=r"b .*another one.* alike"):
        compare([first, second])


def test_find_records_reads_run_folders_and_files(tmp_path: Path) -> None:
    for weights in ("best", "last"):
        write_report(tmp_path / "run" / "evaluation" / weights, _evaluation(), {"weights": weights})
    found = find_records([tmp_path / "run", tmp_path / "run" / "evaluation/last/evaluation.json"])
    assert [record.about["weights"] for record in found] == ["last", "best", "last"]
    assert found[0].measurements == _evaluation().measurements


def test_compare_takes_models_with_their_own_thresholds_alike() -> None:
    """The threshold that a model comes with is a part of it; one that the caller sets is a condition."""

    def record(model: str, cut: str) -> Record:
        measured = replace(_measured("identical", 0.5), protocol=f"attention below {cut} cut to 0")
        return Record({"model": model}, [measured])

    own = [record("a", "0.1 (the model's own)"), record("b", "0.25 (the model's own)")]
    assert "| a |" in compare(own)
    for others in (("0.1", "0.25"), ("0.1 (the model's own)", "0.25")):
        with pytest.raises(EvaluationError, match="alike"):
            compare([record("a", others[0]), record("b", others[1])])
