"""Figures worked out by hand for models whose attention and translations are known."""

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from torch import Tensor

from agit_hub.data import shapes
from agit_hub.errors import EvaluationError
from agit_hub.evaluation.datasets import EvalImage, ShapesEvalDataset
from agit_hub.evaluation.evaluator import Evaluation, Evaluator
from agit_hub.evaluation.image_metrics import Mask
from agit_hub.evaluation.kid_fid import fid, kid, kid_floor
from agit_hub.evaluation.protocols import Protocol, find_protocol
from agit_hub.evaluation.regions import BY_MASK, WHOLE, paint_over
from agit_hub.evaluation.results import MetricResult
from agit_hub.inference.pipeline import AGITPipeline
from tests.conftest import MakeModel

SIDE = 16
THERE, BACK = "horse to zebra", "zebra to horse"
# What each direction's generator paints, and where: three quarters there, nothing back.
MAPS, SHADES = (0.75, 0.0), (200, 50)
# Of these 0.75 * (200 - grey) are whole numbers: 75, 60, 120 and 0.
HORSES, ZEBRAS = [100, 120, 40, 200], [20, 220, 60, 140, 180]
COLUMNS = [4, 8, 12, 12]


class Given:
    """Pictures made by hand: even greys, with objects in their left columns if wished."""

    dataset, split, size = "made by hand", "all", "as they are"
    unreadable: Sequence[str] = ()

    def __init__(
        self, label: str, greys: Sequence[int], columns: Sequence[int] = (), side: int = SIDE
    ) -> None:
        self.label = label
        self.masked = bool(columns)
        masks = [_left(count, side) for count in columns] or [None] * len(greys)
        self.pairs = [
            (Image.new("RGB", (side, side), (grey,) * 3), mask)
            for grey, mask in zip(greys, masks, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[EvalImage]:
        for number, (picture, mask) in enumerate(self.pairs):
            yield EvalImage(f"{self.label} {number}", picture, mask)


def _left(columns: int, side: int = SIDE) -> Mask:
    mask = np.zeros((side, side), bool)
    mask[:, :columns] = True
    return mask


def _mean_colour(pixels: Tensor) -> Tensor:
    return pixels.float().mean(dim=(2, 3)) / 255


def _features(greys: Sequence[float]) -> Tensor:
    """What `_mean_colour` says of even pictures."""
    return (torch.tensor(greys, dtype=torch.float64) / 255)[:, None].expand(-1, 3)


COLOUR = Protocol("colour", _mean_colour, side=8, subset_size=3, subsets=4, bootstraps=5)


def _given(masks: bool = True) -> tuple[Given, Given]:
    return Given("horse", HORSES, COLUMNS if masks else ()), Given("zebra", ZEBRAS)


def _by_metric(evaluation: Evaluation, direction: str) -> dict[str, MetricResult]:
    return {m.metric: m for m in evaluation.measurements if m.direction == direction}


@pytest.fixture(scope="module")
def pipeline(make_model: MakeModel) -> AGITPipeline:
    return AGITPipeline(make_model(maps=MAPS, shades=SHADES))


@pytest.fixture(scope="module")
def evaluation(pipeline: AGITPipeline) -> Evaluation:
    torch.set_num_threads(1)
    return Evaluator(*_given(), COLOUR)(pipeline)


def _check_mean(found: MetricResult, values: Sequence[float]) -> None:
    assert found.value == pytest.approx(fmean(values), abs=1e-5)
    assert found.std == pytest.approx(stdev(values), abs=1e-5)
    assert found.standard_error == pytest.approx(stdev(values) / len(values) ** 0.5, abs=1e-5)


def test_attention_of_a_map_of_one_value(evaluation: Evaluation) -> None:
    found = _by_metric(evaluation, THERE)
    shares = [columns / 16 for columns in COLUMNS]
    _check_mean(found["attention_area"], [1, 1, 1, 1])
    # Above 0.5 everywhere, as a map of ones is: the overlap is the objects' share.
    _check_mean(found["attention_iou"], shares)
    assert found["attention_iou"].ceiling == pytest.approx(fmean(shares))
    assert found["attention_iou_best"].value == pytest.approx(fmean(shares))
    # A box in the middle: 64 pixels, of which 0, 32, 64 and 64 lie on objects.
    boxes = fmean([0, 32 / (64 + 128 - 32), 64 / 192, 64 / 192])
    assert f"a box in the middle reaches {boxes:.3f}" in found["attention_iou"].protocol
    _check_mean(found["attention_average_precision"], shares)
    # It is highest everywhere, and more than half of the last two pictures is object.
    _check_mean(found["attention_pointing"], [0, 0, 1, 1])
    for metric in ("attention_average_precision", "attention_pointing"):
        assert found[metric].ceiling == pytest.approx(fmean(shares))


def test_what_became_of_the_pictures(evaluation: Evaluation) -> None:
    found = _by_metric(evaluation, THERE)
    steps = [75, 60, 120, 0]
    _check_mean(found["background_change"], [step / 255 for step in steps])
    ratios = [20 * np.log10(255 / step) if step else 100 for step in steps]
    _check_mean(found["background_psnr"], ratios)
    _check_mean(found["identical"], [0, 0, 0, 1])
    # On the way back nothing changes, so the cycle is off by what the way there changed.
    _check_mean(found["cycle_error"], [step / 255 for step in steps])
    assert all(m.dataset == "made by hand" and m.split == "all" for m in found.values())
    assert all("4 pictures" in m.protocol for m in found.values())


def test_doing_nothing(evaluation: Evaluation) -> None:
    found = _by_metric(evaluation, BACK)
    assert found["kid"].value == found["kid"].ceiling
    assert found["fid"].value == found["fid"].ceiling
    assert found["identical"].value == 1 and found["attention_area"].value == 0
    # The way back from what was left alone is the other direction's translation.
    _check_mean(found["cycle_error"], [0.75 * abs(200 - grey) / 255 for grey in ZEBRAS])
    # Zebras have no masks here.
    assert set(found) == {"kid", "fid", "attention_area", "identical", "cycle_error"}


def test_distances_stand_between_floor_and_ceiling(evaluation: Evaluation) -> None:
    found = _by_metric(evaluation, THERE)
    fakes = _features([175, 180, 160, 200])
    inputs, real = _features(HORSES), _features(ZEBRAS)
    expected = kid(real, fakes, COLOUR)
    assert found["kid"].value == pytest.approx(expected.mean, abs=1e-6)
    assert found["kid"].std == pytest.approx(expected.std, abs=1e-6)
    assert found["kid"].standard_error == pytest.approx(expected.standard_error, abs=1e-6)
    assert found["kid"].floor == pytest.approx(kid_floor(real, COLOUR).mean, abs=1e-6)
    assert found["kid"].ceiling == pytest.approx(kid(real, inputs, COLOUR).mean, abs=1e-6)
    assert "4 subsets of 3" in found["kid"].protocol and str(COLOUR) in found["kid"].protocol
    assert evaluation.protocol == str(COLOUR)
    assert found["fid"].value == pytest.approx(fid(real, fakes), abs=1e-6)
    assert found["fid"].ceiling == pytest.approx(fid(real, inputs), abs=1e-6)


def test_the_reference_both_is_the_mean_of_both(pipeline: AGITPipeline) -> None:
    both = Protocol("b", _mean_colour, 'pillow', 8, "both", 3, 4, 5)  # fmt: skip
    found = _by_metric(Evaluator(*_given(), both, with_fid=False)(pipeline), THERE)
    fakes = _features([175, 180, 160, 200])
    one, other = (kid(_features(greys), fakes, both).mean for greys in (ZEBRAS, HORSES))
    assert abs(one - other) > 1e-3
    assert found["kid"].value == pytest.approx((one + other) / 2, abs=1e-6)


def test_each_picture_by_itself(evaluation: Evaluation) -> None:
    there = [r for r in evaluation.pictures if r.direction == THERE]
    assert [result.name for result in there] == [f"horse {number}" for number in range(4)]
    assert [len(result.shown) for result in there] == [4] * 4
    back = [r for r in evaluation.pictures if r.direction == BACK]
    assert len(back) == 5 and [len(result.shown) for result in back] == [3] * 5
    for result, grey in zip(there, [175, 180, 160, 200], strict=True):
        # The mean over zebras of k(x, y) = (x.y / 3 + 1)^3, of three equal colours each.
        likeness = fmean((grey * zebra / 255**2 + 1) ** 3 for zebra in ZEBRAS)
        assert result.figures["target_similarity"] == pytest.approx(likeness, rel=1e-5)
        before, _, after, mask = result.shown
        assert after.getpixel((64, 64)) == (grey,) * 3
        assert before.size == mask.size == (128, 128)
    assert there[0].shown[3].getpixel((0, 0)) == (255, 255, 255)
    assert there[0].shown[3].getpixel((127, 0)) == (0, 0, 0)


def test_objects_everywhere_and_nowhere(pipeline: AGITPipeline) -> None:
    """What cannot be measured of a picture does not count as 0."""
    source = Given("horse", HORSES, [4, 16, 0, 12])
    found = _by_metric(Evaluator(source, _given()[1], COLOUR, with_fid=False)(pipeline), THERE)
    _check_mean(found["background_change"], [75 / 255, 120 / 255, 0])
    _check_mean(found["attention_iou"], [0.25, 1, 0, 0.75])
    _check_mean(found["attention_average_precision"], [0.25, 1, 0.75])


def test_a_threshold_cuts_translations(make_model: MakeModel) -> None:
    """Given, or the model's own: 0.8 leaves nothing of a map of 0.75."""
    own = make_model(maps=MAPS, shades=SHADES, attention_threshold=0.8)
    for threshold, model in ((0.8, make_model(maps=MAPS, shades=SHADES)), (None, own)):
        evaluator = Evaluator(*_given(), COLOUR, threshold=threshold, with_fid=False)
        found = _by_metric(evaluator(AGITPipeline(model)), THERE)
        assert found["identical"].value == 1
        assert found["kid"].value == found["kid"].ceiling
        assert "attention below 0.8 cut to 0" in found["identical"].protocol
        # The map itself is what it was.
        for metric in ("attention_iou", "attention_iou_best", "attention_average_precision"):
            assert found[metric].value == pytest.approx(36 / 64)
    evaluator = Evaluator(*_given(), COLOUR, threshold=0.5, with_fid=False)
    found = _by_metric(evaluator(AGITPipeline(own)), THERE)
    assert found["identical"].value == pytest.approx(1 / 4)


def test_the_area_is_that_of_the_threshold_in_use(make_model: MakeModel) -> None:
    model = AGITPipeline(make_model(maps=MAPS, shades=SHADES))
    found = _by_metric(Evaluator(*_given(), COLOUR, threshold=0.8, with_fid=False)(model), THERE)
    assert found["attention_area"].value == 0


def test_without_an_attention_network_there_are_no_figures_of_it(make_model: MakeModel) -> None:
    model = AGITPipeline(make_model(shades=SHADES, attention="ones"))
    evaluation = Evaluator(*_given(), COLOUR, with_fid=False)(model)
    found = _by_metric(evaluation, THERE)
    assert set(found) == {
        *("kid", "background_change", "background_psnr", "background_ssim"),
        *("identical", "cycle_error"),
    }
    # All of every picture is painted.
    _check_mean(found["background_change"], [abs(200 - grey) / 255 for grey in HORSES])


def test_attention_on_features_is_measured_as_any_other(make_model: MakeModel) -> None:
    model = AGITPipeline(make_model(attention="features"))
    found = _by_metric(Evaluator(*_given(), COLOUR, with_fid=False)(model), THERE)
    assert {"attention_iou", "attention_area"} <= set(found)


def test_a_classifier_is_asked_about_translations_and_inputs(pipeline: AGITPipeline) -> None:
    asked: list[tuple[str, list[Mask | None]]] = []

    class Brightness:
        description = "as bright as it is"

        def __call__(
            self, pictures: Sequence[Image.Image], masks: Sequence[Mask | None], label: str
        ) -> list[float]:
            asked.append((label, list(masks)))
            return [np.asarray(picture).mean() / 255 for picture in pictures]

    source, target = _given()
    evaluator = Evaluator(source, target, COLOUR, classifier=Brightness(), with_fid=False)
    found = _by_metric(evaluator(pipeline), THERE)["taken_for_target"]
    _check_mean(found, [grey / 255 for grey in (175, 180, 160, 200)])
    assert found.ceiling == pytest.approx(fmean(HORSES) / 255)
    assert "as bright as it is" in found.protocol
    assert [label for label, _ in asked] == ["zebra"] * 2 + ["horse"] * 2
    for _, masks in asked[:2]:
        for mask, (_, expected) in zip(masks, source.pairs, strict=True):
            assert mask is not None and np.array_equal(mask, expected)
    assert asked[2][1] == [None] * 5
    plain = Evaluator(*_given(), COLOUR, with_fid=False, classifier=lambda p, m, _: [1] * len(p))
    found = _by_metric(plain(pipeline), BACK)["taken_for_target"]
    assert (found.value, found.ceiling) == (1, 1)
    assert "a classifier of one's own" in found.protocol


def _painted_over(greys: Sequence[float], columns: Sequence[int], object_kept: bool) -> Tensor:
    """`_mean_colour` of even images, of which all but the objects or all but the rest is 128."""
    kept = [count if object_kept else SIDE - count for count in columns]
    return _features([(g * k + 128 * (SIDE - k)) / SIDE for g, k in zip(greys, kept, strict=True)])


def test_kid_of_objects_and_of_backgrounds_equals_that_of_images_painted_by_hand(
    pipeline: AGITPipeline,
) -> None:
    own_side = Protocol("own", _mean_colour, side=SIDE, subset_size=3, subsets=4, bootstraps=5)
    other_columns = [2, 6, 10, 14, 9]
    source = Given("horse", HORSES, COLUMNS)
    target = Given("zebra", ZEBRAS, other_columns)
    found = _by_metric(Evaluator(source, target, own_side)(pipeline), THERE)
    assert list(found)[:4] == ["kid", "fid", "kid_foreground", "kid_background"]
    for metric, object_kept in (("kid_foreground", True), ("kid_background", False)):
        # Translations are painted over by their input's mask, real images by their own.
        fakes = _painted_over([175, 180, 160, 200], COLUMNS, object_kept)
        inputs = _painted_over(HORSES, COLUMNS, object_kept)
        real = _painted_over(ZEBRAS, other_columns, object_kept)
        expected = kid(real, fakes, own_side)
        assert found[metric].value == pytest.approx(expected.mean, abs=1e-6)
        assert found[metric].standard_error == pytest.approx(expected.standard_error, abs=1e-6)
        assert found[metric].floor == pytest.approx(kid_floor(real, own_side).mean, abs=1e-6)
        assert found[metric].ceiling == pytest.approx(kid(real, inputs, own_side).mean, abs=1e-6)
        where = "outside" if object_kept else "inside"
        assert f"what lies {where} the mask is painted mid-grey (128)" in found[metric].protocol
    assert "mid-grey" not in found["kid"].protocol
    back = _by_metric(Evaluator(source, target, own_side)(pipeline), BACK)
    assert back["kid_foreground"].value == back["kid_foreground"].ceiling


def test_kid_of_regions_needs_masks_of_both_domains_and_the_wish(pipeline: AGITPipeline) -> None:
    one, other = Given("horse", HORSES, COLUMNS), Given("zebra", ZEBRAS, [*COLUMNS, 5])
    for source, target, wish in (
        (one, Given("zebra", ZEBRAS), True),
        (Given("horse", HORSES), other, True),
        (one, other, False),
    ):
        evaluator = Evaluator(source, target, COLOUR, with_fid=False, with_regions=wish)
        metrics = {m.metric for m in evaluator(pipeline).measurements}
        assert "kid" in metrics and not metrics & {"kid_foreground", "kid_background"}


def test_painting_over_leaves_the_image_itself_alone() -> None:
    image, mask = Image.new("RGB", (SIDE, SIDE), (10, 20, 30)), _left(4)
    foreground, background = BY_MASK
    (kept,) = paint_over(foreground, [image], [mask])
    assert kept.getpixel((3, 0)) == (10, 20, 30) and kept.getpixel((4, 0)) == (128,) * 3
    (kept,) = paint_over(background, [image], [mask])
    assert kept.getpixel((3, 0)) == (128,) * 3 and kept.getpixel((4, 0)) == (10, 20, 30)
    assert paint_over(WHOLE, [image], [mask]) == [image]
    assert image.getpixel((0, 0)) == image.getpixel((15, 0)) == (10, 20, 30)
    with pytest.raises(ValueError, match="no mask"):
        paint_over(foreground, [image], [None])


def test_fid_is_measured_where_it_is_wanted(pipeline: AGITPipeline) -> None:
    evaluation = Evaluator(*_given(), COLOUR, with_fid=False)(pipeline)
    assert "fid" not in {m.metric for m in evaluation.measurements}


def test_real_pictures_are_looked_at_once_for_all_models(
    pipeline: AGITPipeline, make_model: MakeModel
) -> None:
    seen: list[int] = []

    def counting(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return _mean_colour(pixels)

    protocol = Protocol("colour", counting, "pillow", 8, "target", 3, 4, 5)
    evaluator = Evaluator(*_given(), protocol, with_fid=False)
    evaluator(pipeline)
    # Four and five real ones, and as many translations.
    assert sum(seen) == 18
    seen.clear()
    other = AGITPipeline(make_model(maps=(1, 1), shades=SHADES))
    second = evaluator(other)
    assert sum(seen) == 9
    # And that changes no figure of the second.
    fresh = Evaluator(*_given(), protocol, with_fid=False)(other)
    assert second.measurements == fresh.measurements


def test_more_pictures_than_are_held_at_once(pipeline: AGITPipeline) -> None:
    greys = [8 * number for number in range(25)]
    source = Given("horse", greys, [number % 17 for number in range(25)])
    told: list[tuple[int, int, str]] = []
    evaluation = Evaluator(source, _given()[1], COLOUR, with_fid=False)(
        pipeline, lambda *done: told.append(done)
    )
    results = [r for r in evaluation.pictures if r.direction == THERE]
    assert [r.name for r in results] == [f"horse {number}" for number in range(25)]
    shares = [r.figures["object_share"] for r in results]
    assert shares == pytest.approx([number % 17 / 16 for number in range(25)])
    likeness = [fmean(((0.25 * g + 150) * z / 255**2 + 1) ** 3 for z in ZEBRAS) for g in greys]
    assert [r.figures["target_similarity"] for r in results] == pytest.approx(likeness, rel=1e-5)
    assert [(done, total) for done, total, _ in told] == [(n + 1, 30) for n in range(30)]
    assert [name for *_, name in told[:25]] == [r.name for r in results]


def test_pictures_are_measured_at_their_own_size(pipeline: AGITPipeline) -> None:
    """Nothing of the networks' 16 pixels is left in the figures of a picture of 40."""
    source = Given("horse", HORSES, [10, 20, 30, 30], side=40)
    found = _by_metric(Evaluator(source, _given()[1], COLOUR, with_fid=False)(pipeline), THERE)
    assert found["attention_iou"].value == pytest.approx(fmean([0.25, 0.5, 0.75, 0.75]))
    assert found["background_change"].value == pytest.approx(
        fmean([75, 60, 120, 0]) / 255, abs=1e-4
    )


class _Damaged(Given):
    """Eight pictures, of which only the first so many can be read."""

    unreadable: Sequence[str] = ()

    def __init__(self, readable: int) -> None:
        super().__init__("horse", HORSES * 2)
        self._readable = readable

    def __iter__(self) -> Iterator[EvalImage]:
        every = list(super().__iter__())
        self.unreadable = [specimen.name for specimen in every[self._readable :]]
        yield from every[: self._readable]


def test_pictures_that_cannot_be_read_are_told(pipeline: AGITPipeline) -> None:
    evaluation = Evaluator(_Damaged(5), _given()[1], COLOUR, with_fid=False)(pipeline)
    assert evaluation.unreadable == ["horse 5", "horse 6", "horse 7"]
    assert len([r for r in evaluation.pictures if r.direction == THERE]) == 5
    assert "5 pictures" in _by_metric(evaluation, THERE)["kid"].protocol


def test_too_few_that_can_be_read(pipeline: AGITPipeline) -> None:
    # Of three nobody can tell how near real ones are to each other.
    with pytest.raises(EvaluationError, match=r"Only 3 of \d horse pictures can be read"):
        Evaluator(_Damaged(3), _given()[1], COLOUR, with_fid=False)(pipeline)


def test_none_that_can_be_read(pipeline: AGITPipeline) -> None:
    with pytest.raises(EvaluationError, match="Only 0 of"):
        Evaluator(_Damaged(0), _given()[1], COLOUR, with_fid=False)(pipeline)


def _uneven_model(make_model: MakeModel) -> AGITPipeline:
    """It attends to nothing in plain pictures, and here and there in striped ones."""
    labels = {"source_label": "striped", "target_label": "plain"}
    model = make_model(maps=(0.5, 0), shades=(40, 200), **labels)
    torch.nn.init.normal_(model.attention_s.head.weight, std=0.5)
    return AGITPipeline(model)


def test_drawings_against_maps_cut_by_hand(make_model: MakeModel) -> None:
    pipeline = _uneven_model(make_model)
    striped, plain = (ShapesEvalDataset(label, 6, SIDE) for label in ("striped", "plain"))
    evaluation = Evaluator(striped, plain, COLOUR, threshold=0, with_fid=False)(pipeline)
    found = _by_metric(evaluation, "striped to plain")
    drawn = [shapes.draw("striped", number, SIDE, seed=1) for number in range(6)]
    pixels = np.stack([np.asarray(picture) for picture, _ in drawn])
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        maps: npt.NDArray[np.float32] = pipeline.model.attention_s(scaled)[:, 0].numpy()
    masks = np.stack([mask for _, mask in drawn])
    assert 0.2 < (maps > 0.5).mean() < 0.8
    overlaps = [
        ((m > 0.5) & mask).sum() / ((m > 0.5) | mask).sum()
        for m, mask in zip(maps, masks, strict=True)
    ]
    _check_mean(found["attention_iou"], overlaps)
    curve = [
        fmean(
            ((m > cut / 100) & mask).sum() / ((m > cut / 100) | mask).sum()
            for m, mask in zip(maps, masks, strict=True)
        )
        for cut in range(100)
    ]
    assert found["attention_iou_best"].value == pytest.approx(max(curve), abs=1e-3)
    assert found["attention_iou_best"].value >= found["attention_iou"].value
    assert found["attention_iou"].ceiling == pytest.approx(masks.mean())
    painted = (maps[..., None] * 40 + (1 - maps[..., None]) * pixels).round()
    changes = [
        np.abs(after - before)[~mask].mean() / 255
        for before, after, mask in zip(pixels, painted, masks, strict=True)
    ]
    assert found["background_change"].value == pytest.approx(fmean(changes), abs=1e-4)
    nothing = _by_metric(evaluation, "plain to striped")
    assert nothing["attention_iou"].value == nothing["background_change"].value == 0
    assert nothing["background_psnr"].value == 100
    assert nothing["background_ssim"].value == pytest.approx(1, abs=1e-6)
    assert nothing["kid"].value == nothing["kid"].ceiling


def test_with_the_features_that_need_no_network(make_model: MakeModel) -> None:
    striped, plain = (ShapesEvalDataset(label, 4, SIDE) for label in ("striped", "plain"))
    evaluation = Evaluator(striped, plain, find_protocol("lite0"))(_uneven_model(make_model))
    nothing = _by_metric(evaluation, "plain to striped")
    something = _by_metric(evaluation, "striped to plain")
    for metric in ("kid", "fid"):
        assert nothing[metric].value == nothing[metric].ceiling
        assert something[metric].value != something[metric].ceiling
    assert evaluation.protocol.startswith("lite0: lite0")
