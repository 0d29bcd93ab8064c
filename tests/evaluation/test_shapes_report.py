"""The report against figures worked out for a model whose attention and translations are known."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from agit_hub.data import shapes
from agit_hub.evaluation import shapes_report
from agit_hub.evaluation.judge import ObjectJudge
from agit_hub.evaluation.measures import Mask
from agit_hub.evaluation.shapes_report import DirectionReport, ShapesReport
from agit_hub.modeling import AGITModel
from tests.conftest import MakeModel

COUNT, SIDE = 6, 16
GREY = 40
TAU = 0.1
Pixels = npt.NDArray[np.uint8]
Maps = list[npt.NDArray[np.float32]]


def _main(*arguments: str) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["shapes_report", *arguments])
        return shapes_report.main()


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> AGITModel:
    """It attends to nothing in plain pictures; what it attends to in striped ones it paints grey."""
    labels = {"source_label": "striped", "target_label": "plain"}  # either may be the source
    made = make_model(maps=(0.5, 0), shades=(GREY, 200), **labels)
    torch.nn.init.normal_(made.attention_s.head.weight, std=0.5)
    return made


@pytest.fixture(scope="module")
def results(model: AGITModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the command writes, and in `said.txt` prints, about the model."""
    folder = tmp_path_factory.mktemp("results")
    model.save_pretrained(folder / "model")
    said = io.StringIO()
    with redirect_stdout(said):
        code = _main(str(folder / "model"), "--count", str(COUNT), "--out", str(folder / "out"))
    assert code == 0
    (folder / "said.txt").write_text(said.getvalue())
    return folder


def _drawn(label: str) -> tuple[list[Image.Image], list[Mask]]:
    drawn = [shapes.draw(label, index, SIDE, seed=1) for index in range(COUNT)]
    return [picture for picture, _ in drawn], [mask for _, mask in drawn]


def _attended(model: AGITModel, pictures: list[Image.Image]) -> Maps:
    """The maps of striped pictures: of the networks' own size, they are used as they are."""
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    with torch.no_grad():
        maps = model.attention_s(pixels.permute(0, 3, 1, 2) / 127.5 - 1)
    return list(maps[:, 0].numpy())


def _painted(picture: Image.Image, attention: npt.NDArray[np.float32]) -> Image.Image:
    """Eq. 1 with a generator that paints GREY."""
    pixels = np.asarray(picture, dtype=np.float32)
    blend = attention[..., None] * GREY + (1 - attention[..., None]) * pixels
    return Image.fromarray(blend.round().astype(np.uint8))


def _report(results: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((results / "out" / "evaluation.json").read_text())
    return report


def test_figures_are_those_worked_out_by_hand(results: Path, model: AGITModel) -> None:
    report = _report(results)
    assert report["pictures"] == COUNT
    judge = ObjectJudge(SIDE)
    assert report["judge_accuracy"] == judge.accuracy >= 0.95
    directions = {entry["source"]: entry for entry in report["directions"]}
    assert list(directions) == ["plain", "striped"]

    # Nothing is attended to: nothing changes, and everybody is taken for what they are.
    pictures, masks = _drawn("plain")
    nothing = directions["plain"]
    assert nothing["target"] == "striped"
    assert nothing["iou"] == 0 and nothing["background_change"] == 0
    taken = judge.share("striped", pictures, masks)
    assert nothing["taken_for_target"] == nothing["taken_for_target_untouched"] == taken
    assert nothing["iou_everything"] == pytest.approx(np.mean([m.mean() for m in masks]))

    pictures, masks = _drawn("striped")
    something = directions["striped"]
    maps = _attended(model, pictures)
    assert 0.2 < np.mean([m > 0.5 for m in maps]) < 0.8
    overlaps = [
        ((m > 0.5) & mask).sum() / ((m > 0.5) | mask).sum()
        for m, mask in zip(maps, masks, strict=True)
    ]
    assert something["iou"] == pytest.approx(np.mean(overlaps))
    assert something["iou_everything"] == pytest.approx(np.mean([m.mean() for m in masks]))
    painted = [_painted(*pair) for pair in zip(pictures, maps, strict=True)]
    changes = [
        np.abs(np.asarray(before, dtype=int) - np.asarray(after, dtype=int))[~mask].mean() / 255
        for before, after, mask in zip(pictures, painted, masks, strict=True)
    ]
    assert something["background_change"] == pytest.approx(np.mean(changes), abs=1e-4)
    assert something["taken_for_target"] == judge.share("plain", painted, masks)
    assert something["taken_for_target_untouched"] == judge.share("plain", pictures, masks) < 0.5


def test_what_is_printed_names_both_directions_and_the_judge(results: Path) -> None:
    said = (results / "said.txt").read_text()
    report = _report(results)
    assert f"On {COUNT} unseen pictures" in said
    for entry in report["directions"]:
        (line,) = (line for line in said.splitlines() if f"{entry['source']} -> " in line)
        assert f"{entry['iou']:.3f} (all ones {entry['iou_everything']:.3f})" in line
        assert f"{entry['background_change']:.4f}" in line


def test_the_text_shows_each_figure_in_its_column() -> None:
    direction = DirectionReport("plain", "striped", 0.1234, 0.2345, 0.0321, 0.755, 0.02)
    text = str(ShapesReport(9, 0.985, [direction]))
    assert "9 unseen" in text and "98.5% right" in text
    figures = ["0.123 (all ones 0.234)", "0.0321", "75.5% (untouched 2.0%)"]
    line = text.splitlines()[-1]
    assert line.startswith("plain -> striped")
    places = [line.index(figure) for figure in figures]
    assert places == sorted(places)


def _holds(sheet: Pixels, tile: Pixels) -> list[tuple[int, int]]:
    height, width = tile.shape[:2]
    corners = (sheet[: 1 - height, : 1 - width] == tile[0, 0]).all(-1)
    return [
        (int(left), int(top))
        for top, left in zip(*np.nonzero(corners), strict=True)
        if np.array_equal(sheet[top : top + height, left : left + width], tile)
    ]


def test_the_picture_shows_input_attention_and_translation(results: Path, model: AGITModel) -> None:
    sheet = np.asarray(Image.open(results / "out" / "evaluation.png"))

    def places(picture: Image.Image) -> list[tuple[int, int]]:
        return _holds(sheet, np.asarray(picture.resize((128, 128), Image.Resampling.NEAREST)))

    tops = []
    for index in range(4):
        (plain, _), (striped, _) = (
            shapes.draw(label, index, SIDE, seed=1) for label in ("plain", "striped")
        )
        # Left as it is, the plain picture stands there as input and as translation.
        (before, top), (after, same) = places(plain)
        ((other, level),) = places(striped)
        (attention,) = _attended(model, [striped])
        ((last, height),) = places(_painted(striped, np.where(attention < TAU, 0, attention)))
        assert top == same == level == height
        assert before + 2 * 128 <= after and after + 128 <= other and other + 2 * 128 <= last
        tops.append(top)
    assert tops == sorted(tops)


def test_what_is_no_model_ends_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main(str(tmp_path)) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and str(tmp_path) in captured.err
    assert captured.out == "" and captured.err.count("\n") == 1


def test_a_model_of_other_things_ends_with_a_sentence(
    make_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model().save_pretrained(tmp_path)  # from horse to zebra
    assert _main(str(tmp_path), "--count", "1") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert all(label in said for label in ("horse", "zebra", *shapes.LABELS))
