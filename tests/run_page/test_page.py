"""The page holds what the run folder does, and nothing in it can break out of its place."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from agit_hub.errors import RunFolderError
from agit_hub.run_page.page import render_page, write_page
from agit_hub.run_page.status import RunStatus, write_status
from agit_hub.runs import RunFolder


def data_of(page: str, **options: Any) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return dict(json.loads(found[1], **options))


def result(metric: str, value: float, split: str) -> dict[str, Any]:
    return {
        "metric": metric, "title": metric.upper(), "value": value, "dataset": "photos", "split": split,
        "protocol": "lite0", "direction": "a to b", "baseline": 0.5,
    }  # fmt: skip


def test_page_curves_are_means_of_neighbours_that_end_at_the_last_step(run: RunFolder) -> None:
    charts = data_of(render_page(run))["charts"]
    (chart,) = (c for c in charts if c["title"] == "Attention: mean of the maps")
    flat, rising = chart["series"]
    assert {value for _, value in flat["points"]} == {0.25}
    # 1000 points in groups of 3, counted from the end.
    assert len(rising["points"]) == 334
    assert rising["points"][0] == [1000, pytest.approx(0.999)]
    assert rising["points"][-1] == [1, pytest.approx(0.001)]


def test_page_loss_that_is_always_zero_has_no_chart(run: RunFolder) -> None:
    titles = {chart["title"] for chart in data_of(render_page(run))["charts"]}
    assert titles == {"Attention: mean of the maps"}


def test_page_marks_the_switch_unless_the_run_began_with_it(run: RunFolder) -> None:
    assert data_of(render_page(run))["switched"] == 301
    run.truncate_metrics(0)
    run.append_metrics({"step": 1, "switched": 1.0})
    assert data_of(render_page(run))["switched"] is None


def test_page_leaves_out_values_that_are_not_finite(run: RunFolder) -> None:
    """The browser's JSON has neither NaN nor Infinity."""
    run.truncate_metrics(0)
    for step, loss in ((1, 0.5), (2, math.nan), (3, math.inf), (4, 0.25)):
        run.append_metrics({"step": step, "loss/adversarial_st": loss})
    page = render_page(run)
    data_of(page, parse_constant=pytest.fail)
    (chart,) = data_of(page)["charts"]
    assert chart["series"][0]["points"] == [[4, 0.25], [1, 0.5]]


def test_page_links_samples_or_holds_them(run: RunFolder) -> None:
    linked = data_of(render_page(run))["grids"]
    assert [grid["step"] for grid in linked] == [500, 1000]
    assert all((run.path / grid["source"]).is_file() for grid in linked)
    embedded = data_of(render_page(run, settings={}))["grids"]
    assert all(grid["source"].startswith("data:image/jpeg;base64,") for grid in embedded)


def test_page_text_of_a_run_cannot_end_its_element(run: RunFolder) -> None:
    page = render_page(run)
    assert "<b>horse" not in page and page.count("</script>") == 2
    assert data_of(page)["directions"][0] == "<b>horse</b> → </script>"


def test_page_shows_the_validation_until_the_last_weights_are_evaluated(run: RunFolder) -> None:
    results = run.path / "measurements.json"
    results.write_text(json.dumps([result("kid", 0.25, "validation")]))
    (shown,) = data_of(render_page(run))["results"]
    assert shown["title"] == "Last validation"
    assert shown["rows"] == [["KID", "a to b", "0.25", "", "0.5"]]
    # As `agit evaluate` does.
    results.write_text(json.dumps([result("kid", 0.125, "test")]))
    report = run.evaluation("last") / "evaluation.json"
    report.parent.mkdir(parents=True)
    report.write_text(json.dumps({"measurements": [result("kid", 0.125, "test")]}))
    (shown,) = data_of(render_page(run))["results"]
    assert shown["title"] == "Evaluation of the last weights" and shown["rows"][0][2] == "0.125"


def test_page_of_damaged_files_is_shown_without_them(run: RunFolder) -> None:
    for name in ("status.json", "run.json", "measurements.json"):
        (run.path / name).write_text('{"measurements": 3')
    data = data_of(render_page(run))
    assert data["status"]["state"] == "unknown" and data["status"]["step"] == 1000
    assert data["machine"] == {} and data["results"] == []


def test_page_of_other_folder_raises_run_folder_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"not a run folder.*config\.yaml"):
        write_page(RunFolder(tmp_path))


@pytest.fixture
def opened(browser: Browser, run: RunFolder) -> Iterator[Page]:
    """The page from the disk; whatever it says on the console or asks elsewhere fails the test."""
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    trouble: list[str] = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:")) or trouble.append(r.url))
    page.goto(write_page(run).as_uri())
    yield page
    context.close()
    assert trouble == []


def test_page_in_a_browser_shows_progress_samples_and_curves(opened: Page) -> None:
    expect(opened.locator("#facts")).to_contain_text("Step: 1000 of 2000")
    expect(opened.locator("#notes")).to_contain_text("Attention is healthy")
    expect(opened.locator("#directions")).to_contain_text("<b>horse</b> → </script>")
    expect(opened.locator("#charts svg")).to_have_count(1)
    expect(opened.locator("#weights")).to_contain_text("train.ema_decay 0.5")
    grid = opened.locator("#grid")
    expect(grid).to_have_attribute("src", "samples/step-00001000.png")
    opened.locator("#step").focus()
    opened.keyboard.press("ArrowLeft")
    expect(grid).to_have_attribute("src", "samples/step-00000500.png")
    assert grid.evaluate("image => image.decode().then(() => image.naturalWidth)") == 80
    opened.reload()
    expect(grid).to_have_attribute("src", "samples/step-00000500.png")
    assert opened.evaluate("document.documentElement.scrollWidth") == 390


def test_page_in_a_browser_tells_warnings_and_silence(opened: Page, run: RunFolder) -> None:
    write_status(
        run, RunStatus("running", 1000, 2000, warnings=["Attention is empty."], updated=1e9)
    )
    write_page(run)
    opened.reload()
    expect(opened.locator("#facts")).to_contain_text("State: not running?")
    expect(opened.locator("#notes .bad")).to_have_count(2)
    expect(opened.locator("#notes")).to_contain_text("--resume")
    expect(opened.locator("#notes")).not_to_contain_text("healthy")
    write_status(run, RunStatus("running", 1000, 2000, judged_after=1001))
    write_page(run)
    opened.reload()
    expect(opened.locator("#notes")).to_contain_text("Too early to judge attention")
    expect(opened.locator("#notes")).not_to_contain_text("healthy")
