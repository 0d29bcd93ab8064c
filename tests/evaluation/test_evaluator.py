"""Results against values computed by hand, for models with known attention and translations."""

import re
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
from agit_hub.evaluation.kid_fid import fid, kid, reference_kid
from agit_hub.evaluation.protocols import Protocol, find_protocol
from agit_hub.evaluation.regions import BY_MASK, WHOLE, paint_over
from agit_hub.evaluation.results import MetricResult
from agit_hub.inference.pipeline import AGITPipeline
from tests.conftest import MakeModel

SIDE = 16
THERE, BACK = "horse to zebra", "zebra to horse"
# Values of each direction's map and generator.
MAPS, SHADES = (0.75, 0.0), (200, 50)
# Of these 0.75 * (200 - grey) are whole numbers: 75, 60, 120 and 0.
HORSES, ZEBRAS = [100, 120, 40, 200], [20, 220, 60, 140, 180]
COLUMNS = [4, 8, 12, 12]


class GreyDataset:
    """Uniform grey images, optionally with masks of their left columns."""

    dataset, split, size = "made by hand", "all", "as they are"
    unreadable: Sequence[str] = ()

    def __init__(
        self, label: str, greys: Sequence[int], columns: Sequence[int] = (), side: int = SIDE
    ) -> None:
        self.label = label
        self.masks = "columns" if columns else None
        self.empty_masks = 0
        masks = [_left(count, side) for count in columns] or [None] * len(greys)
        self.pairs = [
            (Image.new("RGB", (side, side), (grey,) * 3), mask)
            for grey, mask in zip(greys, masks, strict=True)
        ]

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[EvalImage]:
        self.empty_masks = sum(mask is not None and not mask.any() for _, mask in self.pairs)
        for number, (image, mask) in enumerate(self.pairs):
            yield EvalImage(f"{self.label} {number}", image, mask)


def _left(columns: int, side: int = SIDE) -> Mask:
    mask = np.zeros((side, side), bool)
    mask[:, :columns] = True
    return mask


def _mean_colour(pixels: Tensor) -> Tensor:
    return pixels.float().mean(dim=(2, 3)) / 255


def _features(greys: Sequence[float]) -> Tensor:
    """Return `_mean_colour` of uniform images."""
    return (torch.tensor(greys, dtype=torch.float64) / 255)[:, None].expand(-1, 3)


COLOUR = Protocol("colour", _mean_colour, side=8, subset_size=3, subsets=4, bootstraps=5)


def _datasets(masks: bool = True) -> tuple[GreyDataset, GreyDataset]:
    return GreyDataset("horse", HORSES, COLUMNS if masks else ()), GreyDataset("zebra", ZEBRAS)


def _by_metric(evaluation: Evaluation, direction: str) -> dict[str, MetricResult]:
    return {m.metric: m for m in evaluation.measurements if m.direction == direction}


@pytest.fixture(scope="module")
def pipeline(make_model: MakeModel) -> AGITPipeline:
    return AGITPipeline(make_model(maps=MAPS, shades=SHADES))


@pytest.fixture(scope="module")
def evaluation(pipeline: AGITPipeline) -> Evaluation:
    torch.set_num_threads(1)
    return Evaluator(*_datasets(), COLOUR)(pipeline)


def _check_mean(found: MetricResult, values: Sequence[float]) -> None:
    assert found.value == pytest.approx(fmean(values), abs=1e-5)
    assert found.std == pytest.approx(stdev(values), abs=1e-5)
    assert found.standard_error == pytest.approx(stdev(values) / len(values) ** 0.5, abs=1e-5)


def test_evaluator_attention_of_a_uniform_map(evaluation: Evaluation) -> None:
    found = _by_metric(evaluation, THERE)
    shares = [columns / 16 for columns in COLUMNS]
    _check_mean(found["attention_area"], [1, 1, 1, 1])
    # Above 0.5 everywhere, as a map of ones is: the overlap is the objects' share.
    _check_mean(found["attention_iou"], shares)
    assert found["attention_iou"].baseline == pytest.approx(fmean(shares))
    assert found["attention_iou_best"].value == pytest.approx(fmean(shares))
    # A box in the middle: 64 pixels, of which 0, 32, 64 and 64 lie on objects.
    boxes = fmean([0, 32 / (64 + 128 - 32), 64 / 192, 64 / 192])
    assert f"a box in the middle reaches {boxes:.3f}" in found["attention_iou"].protocol
    _check_mean(found["attention_average_precision"], shares)
    # It is highest everywhere, and more than half of the last two images is object.
    _check_mean(found["attention_pointing"], [0, 0, 1, 1])
    for metric in ("attention_average_precision", "attention_pointing"):
        assert found[metric].baseline == pytest.approx(fmean(shares))


def test_evaluator_background_identity_and_cycle_error(evaluation: Evaluation) -> None:
    found = _by_metric(evaluation, THERE)
    steps = [75, 60, 120, 0]
    _check_mean(found["background_change"], [step / 255 for step in steps])
    ratios = [20 * np.log10(255 / step) if step else 100 for step in steps]
    _check_mean(found["background_psnr"], ratios)
    _check_mean(found["identical"], [0, 0, 0, 1])
    # The other direction changes nothing, so the cycle error is the translation's change.
    _check_mean(found["cycle_error"], [step / 255 for step in steps])
    assert all(m.dataset == "made by hand" and m.split == "all" for m in found.values())
    assert all("4 images" in m.protocol for m in found.values())


def test_evaluator_of_an_identity_direction_equals_the_baseline(evaluation: Evaluation) -> None:
    found = _by_metric(evaluation, BACK)
    assert found["kid"].value == found["kid"].baseline
    assert found["fid"].value == found["fid"].baseline
    assert found["identical"].value == 1 and found["attention_area"].value == 0
    # The reconstruction is the other direction's translation of the unchanged input.
    _check_mean(found["cycle_error"], [0.75 * abs(200 - grey) / 255 for grey in ZEBRAS])
    # Zebras have no masks here.
    assert set(found) == {"kid", "fid", "attention_area", "identical", "cycle_error"}


def test_evaluator_kid_and_fid_with_reference_and_baseline(evaluation: Evaluation) -> None:
    found = _by_metric(evaluation, THERE)
    fakes = _features([175, 180, 160, 200])
    inputs, real = _features(HORSES), _features(ZEBRAS)
    expected = kid(real, fakes, COLOUR)
    assert found["kid"].value == pytest.approx(expected.mean, abs=1e-6)
    assert found["kid"].std == pytest.approx(expected.std, abs=1e-6)
    assert found["kid"].standard_error == pytest.approx(expected.standard_error, abs=1e-6)
    assert found["kid"].reference == pytest.approx(reference_kid(real, COLOUR).mean, abs=1e-6)
    assert found["kid"].baseline == pytest.approx(kid(real, inputs, COLOUR).mean, abs=1e-6)
    assert "4 subsets of 3" in found["kid"].protocol and str(COLOUR) in found["kid"].protocol
    assert evaluation.protocol == str(COLOUR)
    assert found["fid"].value == pytest.approx(fid(real, fakes), abs=1e-6)
    assert found["fid"].baseline == pytest.approx(fid(real, inputs), abs=1e-6)


def test_evaluator_compared_with_both_averages_both_distances(pipeline: AGITPipeline) -> None:
    both = Protocol("b", _mean_colour, 'pillow', 8, "both", 3, 4, 5)  # fmt: skip
    found = _by_metric(Evaluator(*_datasets(), both, with_fid=False)(pipeline), THERE)
    fakes = _features([175, 180, 160, 200])
    one, other = (kid(_features(greys), fakes, both).mean for greys in (ZEBRAS, HORSES))
    assert abs(one - other) > 1e-3
    assert found["kid"].value == pytest.approx((one + other) / 2, abs=1e-6)


def test_evaluator_image_results_hold_metrics_and_thumbnails(evaluation: Evaluation) -> None:
    there = [r for r in evaluation.images if r.direction == THERE]
    assert [result.name for result in there] == [f"horse {number}" for number in range(4)]
    assert [len(result.thumbnails) for result in there] == [4] * 4
    back = [r for r in evaluation.images if r.direction == BACK]
    assert len(back) == 5 and [len(result.thumbnails) for result in back] == [3] * 5
    for result, grey in zip(there, [175, 180, 160, 200], strict=True):
        # The mean over zebras of k(x, y) = (x.y / 3 + 1)^3, of three equal colours each.
        similarity = fmean((grey * zebra / 255**2 + 1) ** 3 for zebra in ZEBRAS)
        assert result.metrics["target_similarity"] == pytest.approx(similarity, rel=1e-5)
        before, _, after, mask = result.thumbnails
        assert after.getpixel((64, 64)) == (grey,) * 3
        assert before.size == mask.size == (128, 128)
    assert there[0].thumbnails[3].getpixel((0, 0)) == (255, 255, 255)
    assert there[0].thumbnails[3].getpixel((127, 0)) == (0, 0, 0)


def test_evaluator_skips_metrics_that_an_image_cannot_have(pipeline: AGITPipeline) -> None:
    """They do not count as 0."""
    source = GreyDataset("horse", HORSES, [4, 16, 0, 12])
    found = _by_metric(Evaluator(source, _datasets()[1], COLOUR, with_fid=False)(pipeline), THERE)
    _check_mean(found["background_change"], [75 / 255, 120 / 255, 0])
    _check_mean(found["attention_iou"], [0.25, 1, 0, 0.75])
    _check_mean(found["attention_average_precision"], [0.25, 1, 0.75])


def test_evaluator_threshold_cuts_translations(make_model: MakeModel) -> None:
    """An explicit one or the model's own: 0.8 cuts a map of 0.75 to 0."""
    own = make_model(maps=MAPS, shades=SHADES, attention_threshold=0.8)
    for threshold, model in ((0.8, make_model(maps=MAPS, shades=SHADES)), (None, own)):
        evaluator = Evaluator(*_datasets(), COLOUR, threshold=threshold, with_fid=False)
        found = _by_metric(evaluator(AGITPipeline(model)), THERE)
        assert found["identical"].value == 1
        assert found["kid"].value == found["kid"].baseline
        own_threshold = "" if threshold else " (the model's own)"
        cut = f"attention below 0.8{own_threshold} cut to 0"
        assert cut in found["identical"].protocol
        # The map itself is not cut.
        for metric in ("attention_iou", "attention_iou_best", "attention_average_precision"):
            assert found[metric].value == pytest.approx(36 / 64)
    evaluator = Evaluator(*_datasets(), COLOUR, threshold=0.5, with_fid=False)
    found = _by_metric(evaluator(AGITPipeline(own)), THERE)
    assert found["identical"].value == pytest.approx(1 / 4)


def test_evaluator_area_uses_the_threshold_in_use(make_model: MakeModel) -> None:
    model = AGITPipeline(make_model(maps=MAPS, shades=SHADES))
    found = _by_metric(Evaluator(*_datasets(), COLOUR, threshold=0.8, with_fid=False)(model), THERE)
    assert found["attention_area"].value == 0


def test_evaluator_without_attention_network_has_no_attention_metrics(
    make_model: MakeModel,
) -> None:
    model = AGITPipeline(make_model(shades=SHADES, attention="ones"))
    evaluation = Evaluator(*_datasets(), COLOUR, with_fid=False)(model)
    found = _by_metric(evaluation, THERE)
    assert set(found) == {
        *("kid", "background_change", "background_psnr", "background_ssim"),
        *("identical", "cycle_error"),
    }
    # The whole image is replaced.
    _check_mean(found["background_change"], [abs(200 - grey) / 255 for grey in HORSES])


def test_evaluator_of_attention_on_features_has_attention_metrics(make_model: MakeModel) -> None:
    model = AGITPipeline(make_model(attention="features"))
    found = _by_metric(Evaluator(*_datasets(), COLOUR, with_fid=False)(model), THERE)
    assert {"attention_iou", "attention_area"} <= set(found)


def test_evaluator_classifier_scores_translations_and_inputs(pipeline: AGITPipeline) -> None:
    calls: list[tuple[str, list[Mask | None]]] = []

    class Brightness:
        description = "as bright as it is"

        def __call__(
            self, images: Sequence[Image.Image], masks: Sequence[Mask | None], label: str
        ) -> list[float]:
            calls.append((label, list(masks)))
            return [np.asarray(image).mean() / 255 for image in images]

    source, target = _datasets()
    evaluator = Evaluator(source, target, COLOUR, classifier=Brightness(), with_fid=False)
    found = _by_metric(evaluator(pipeline), THERE)["target_accuracy"]
    _check_mean(found, [grey / 255 for grey in (175, 180, 160, 200)])
    assert found.baseline == pytest.approx(fmean(HORSES) / 255)
    assert "as bright as it is" in found.protocol
    assert [label for label, _ in calls] == ["zebra"] * 2 + ["horse"] * 2
    for _, masks in calls[:2]:
        for mask, (_, expected) in zip(masks, source.pairs, strict=True):
            assert mask is not None and np.array_equal(mask, expected)
    assert calls[2][1] == [None] * 5
    plain = Evaluator(*_datasets(), COLOUR, with_fid=False, classifier=lambda p, m, _: [1] * len(p))
    found = _by_metric(plain(pipeline), BACK)["target_accuracy"]
    assert (found.value, found.baseline) == (1, 1)
    assert "a custom classifier" in found.protocol


def _painted_over(greys: Sequence[float], columns: Sequence[int], object_kept: bool) -> Tensor:
    """`_mean_colour` of even images, of which all but the objects or all but the rest is 128."""
    kept = [count if object_kept else SIDE - count for count in columns]
    return _features([(g * k + 128 * (SIDE - k)) / SIDE for g, k in zip(greys, kept, strict=True)])


def test_evaluator_regional_kid_equals_kid_of_images_painted_by_hand(
    pipeline: AGITPipeline,
) -> None:
    own_side = Protocol("own", _mean_colour, side=SIDE, subset_size=3, subsets=4, bootstraps=5)
    other_columns = [2, 6, 10, 14, 9]
    source = GreyDataset("horse", HORSES, COLUMNS)
    target = GreyDataset("zebra", ZEBRAS, other_columns)
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
        assert found[metric].reference == pytest.approx(
            reference_kid(real, own_side).mean, abs=1e-6
        )
        assert found[metric].baseline == pytest.approx(kid(real, inputs, own_side).mean, abs=1e-6)
        where = "outside" if object_kept else "inside"
        assert f"everything {where} the mask is painted mid-grey (128)" in found[metric].protocol
    assert "mid-grey" not in found["kid"].protocol
    back = _by_metric(Evaluator(source, target, own_side)(pipeline), BACK)
    assert back["kid_foreground"].value == back["kid_foreground"].baseline


def test_evaluator_regional_kid_needs_masks_of_both_domains(
    pipeline: AGITPipeline,
) -> None:
    one, other = GreyDataset("horse", HORSES, COLUMNS), GreyDataset("zebra", ZEBRAS, [*COLUMNS, 5])
    for source, target, with_regions in (
        (one, GreyDataset("zebra", ZEBRAS), True),
        (GreyDataset("horse", HORSES), other, True),
        (one, other, False),
    ):
        evaluator = Evaluator(source, target, COLOUR, with_fid=False, with_regions=with_regions)
        metrics = {m.metric for m in evaluator(pipeline).measurements}
        assert "kid" in metrics and not metrics & {"kid_foreground", "kid_background"}


def test_paint_over_returns_a_painted_copy() -> None:
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


def test_evaluator_without_fid_has_no_fid(pipeline: AGITPipeline) -> None:
    evaluation = Evaluator(*_datasets(), COLOUR, with_fid=False)(pipeline)
    assert "fid" not in {m.metric for m in evaluation.measurements}


def test_evaluator_extracts_features_of_real_images_once(
    pipeline: AGITPipeline, make_model: MakeModel
) -> None:
    seen: list[int] = []

    def counting(pixels: Tensor) -> Tensor:
        seen.append(len(pixels))
        return _mean_colour(pixels)

    protocol = Protocol("colour", counting, "pillow", 8, "target", 3, 4, 5)
    evaluator = Evaluator(*_datasets(), protocol, with_fid=False)
    evaluator(pipeline)
    # Four and five real ones, and as many translations.
    assert sum(seen) == 18
    seen.clear()
    other = AGITPipeline(make_model(maps=(1, 1), shades=SHADES))
    second = evaluator(other)
    assert sum(seen) == 9
    # The second model's results are the same as without the first.
    fresh = Evaluator(*_datasets(), protocol, with_fid=False)(other)
    assert second.measurements == fresh.measurements


def test_evaluator_of_more_images_than_a_chunk(pipeline: AGITPipeline) -> None:
    greys = [8 * number for number in range(25)]
    source = GreyDataset("horse", greys, [number % 17 for number in range(25)])
    progress: list[tuple[int, int]] = []
    evaluation = Evaluator(source, _datasets()[1], COLOUR, with_fid=False)(
        pipeline, lambda *done: progress.append(done)
    )
    results = [r for r in evaluation.images if r.direction == THERE]
    assert [r.name for r in results] == [f"horse {number}" for number in range(25)]
    # Without an object there is no average precision, whose baseline this is.
    shares = {n: r.metrics["object_share"] for n, r in enumerate(results) if n % 17}
    assert shares == pytest.approx({n: n % 17 / 16 for n in range(25) if n % 17})
    assert evaluation.notes == ["2 of 25 horse masks show no object."]
    similarity = [fmean(((0.25 * g + 150) * z / 255**2 + 1) ** 3 for z in ZEBRAS) for g in greys]
    assert [r.metrics["target_similarity"] for r in results] == pytest.approx(similarity, rel=1e-5)
    assert progress == [(n + 1, 30) for n in range(30)]


def test_evaluator_measures_images_at_their_own_size(pipeline: AGITPipeline) -> None:
    """Metrics of an image of 40 pixels do not depend on the networks' 16."""
    source = GreyDataset("horse", HORSES, [10, 20, 30, 30], side=40)
    found = _by_metric(Evaluator(source, _datasets()[1], COLOUR, with_fid=False)(pipeline), THERE)
    assert found["attention_iou"].value == pytest.approx(fmean([0.25, 0.5, 0.75, 0.75]))
    assert found["background_change"].value == pytest.approx(
        fmean([75, 60, 120, 0]) / 255, abs=1e-4
    )


class _Damaged(GreyDataset):
    """Eight images, of which the first `readable` can be read."""

    unreadable: Sequence[str] = ()

    def __init__(self, readable: int) -> None:
        super().__init__("horse", HORSES * 2)
        self._readable = readable

    def __iter__(self) -> Iterator[EvalImage]:
        every = list(super().__iter__())
        self.unreadable = [item.name for item in every[self._readable :]]
        yield from every[: self._readable]


def test_evaluator_reports_unreadable_images(pipeline: AGITPipeline) -> None:
    evaluation = Evaluator(_Damaged(5), _datasets()[1], COLOUR, with_fid=False)(pipeline)
    assert evaluation.unreadable == ["horse 5", "horse 6", "horse 7"]
    assert len([r for r in evaluation.images if r.direction == THERE]) == 5
    assert "5 images" in _by_metric(evaluation, THERE)["kid"].protocol


def test_evaluator_with_too_few_readable_images_is_refused(pipeline: AGITPipeline) -> None:
    # The KID reference needs four.
    with pytest.raises(EvaluationError, match=r"Only 3 of \d horse images can be read"):
        Evaluator(_Damaged(3), _datasets()[1], COLOUR, with_fid=False)(pipeline)


def test_evaluator_without_readable_images_is_refused(pipeline: AGITPipeline) -> None:
    with pytest.raises(EvaluationError, match="Only 0 of"):
        Evaluator(_Damaged(0), _datasets()[1], COLOUR, with_fid=False)(pipeline)


def _uneven_model(make_model: MakeModel) -> AGITPipeline:
    """Return a model with a map of 0 on plain images and an uneven one on striped images."""
    labels = {"source_label": "striped", "target_label": "plain"}
    model = make_model(maps=(0.5, 0), shades=(40, 200), **labels)
    torch.nn.init.normal_(model.attention_s.head.weight, std=0.5)
    return AGITPipeline(model)


def test_evaluator_on_shapes_equals_maps_cut_by_hand(make_model: MakeModel) -> None:
    pipeline = _uneven_model(make_model)
    striped, plain = (ShapesEvalDataset(label, 6, SIDE) for label in ("striped", "plain"))
    evaluation = Evaluator(striped, plain, COLOUR, threshold=0, with_fid=False)(pipeline)
    found = _by_metric(evaluation, "striped to plain")
    drawn = [shapes.draw("striped", number, SIDE, seed=1) for number in range(6)]
    pixels = np.stack([np.asarray(image) for image, _ in drawn])
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
    assert found["attention_iou"].baseline == pytest.approx(masks.mean())
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
    assert nothing["kid"].value == nothing["kid"].baseline


def test_evaluator_with_lite0_features(make_model: MakeModel) -> None:
    striped, plain = (ShapesEvalDataset(label, 4, SIDE) for label in ("striped", "plain"))
    evaluation = Evaluator(striped, plain, find_protocol("lite0"))(_uneven_model(make_model))
    nothing = _by_metric(evaluation, "plain to striped")
    something = _by_metric(evaluation, "striped to plain")
    for metric in ("kid", "fid"):
        assert nothing[metric].value == nothing[metric].baseline
        assert something[metric].value != something[metric].baseline
    assert evaluation.protocol.startswith("lite0: lite0")


def test_evaluator_protocols_state_threshold_and_masks(pipeline: AGITPipeline) -> None:
    for threshold, shown in ((None, "0.1 (the model's own)"), (0.5, "0.5")):
        evaluator = Evaluator(*_datasets(), COLOUR, threshold=threshold)
        found = _by_metric(evaluator(pipeline), THERE)
        for metric in ("kid", "fid", "identical", "background_change"):
            assert f"attention below {shown} cut to 0" in found[metric].protocol
        for metric in ("attention_iou", "attention_iou_best", "background_change"):
            assert "columns" in found[metric].protocol


def test_evaluator_best_threshold_is_a_metric_and_no_condition(pipeline: AGITPipeline) -> None:
    """Conditions are compared: each model has its own best threshold."""
    found = _by_metric(Evaluator(*_datasets(), COLOUR, with_fid=False)(pipeline), THERE)
    assert 0 <= found["attention_best_threshold"].value < 1
    protocol = found["attention_iou_best"].protocol
    assert not re.search(r"above 0\.", protocol) and "best single threshold" in protocol
