"""The pictures that a model is measured on: which, in what order, with which masks."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.load import load_domains
from agit_hub.errors import DataError, EvaluationError
from agit_hub.evaluation.datasets import EvalDataset, ShapesEvalDataset
from agit_hub.evaluation.opening import DomainEvalDataset, load_eval_datasets

SIZE = (16, 12)
LABELS = ("horse", "zebra")


def _folder(path: Path, count: int, ending: str = "png", first: int = 0) -> Path:
    """Pictures `00`, `01`, ..., the grey of each of which is ten times its number."""
    path.mkdir(parents=True)
    for number in range(first, first + count):
        Image.new("RGB", SIZE, (10 * number,) * 3).save(path / f"{number:02}.{ending}")
    return path


def _mask(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _specimens(
    folder: Path, masks: Path | None = None, limit: int | None = None, side: int | None = None
) -> DomainEvalDataset:
    config = DomainConfig(path=str(folder))
    opened, _ = load_domains(config, DomainConfig(path="shapes", name="plain"), None, 1)
    return DomainEvalDataset(opened, "horse", masks, limit, side)


def _greys(specimens: EvalDataset) -> list[int]:
    return [specimen.picture.getpixel((0, 0))[0] for specimen in specimens]  # type: ignore[index]


@pytest.mark.parametrize("label", shapes.LABELS)
def test_drawings_are_none_that_training_or_validation_draws(label: str) -> None:
    drawn = list(ShapesEvalDataset(label, 20, 32))
    assert len(drawn) == len(ShapesEvalDataset(label, 20, 32)) == 20
    pixels = {specimen.picture.tobytes() for specimen in drawn}
    assert len(pixels) == 20
    for seed in (0, 2):
        others = {shapes.draw(label, number, 32, seed)[0].tobytes() for number in range(60)}
        assert not pixels & others
    assert pixels == {s.picture.tobytes() for s in ShapesEvalDataset(label, 20, 32)}


def test_masks_of_drawings_are_true() -> None:
    """They are the drawing's own, not those of another picture."""
    plain, striped = (ShapesEvalDataset(label, 12, 32) for label in shapes.LABELS)
    assert plain.label == "plain"
    for number, specimen in enumerate(striped):
        assert specimen.mask is not None and specimen.mask.dtype == bool
        assert specimen.mask.shape == (32, 32) and 0 < specimen.mask.mean() < 1
        picture, mask = shapes.draw("striped", number, 32, seed=1)
        assert np.array_equal(specimen.mask, mask)
        assert specimen.picture.tobytes() == picture.tobytes()


def test_a_folder_is_taken_whole_in_its_order(tmp_path: Path) -> None:
    specimens = _specimens(_folder(tmp_path / "horses", 12))
    assert (len(specimens), specimens.label) == (12, "horse")
    for _ in range(2):  # whoever goes through it again finds the same
        assert _greys(specimens) == [10 * number for number in range(12)]
    found = list(specimens)
    assert [specimen.name for specimen in found] == [f"{number:02}.png" for number in range(12)]
    assert all(specimen.mask is None for specimen in found)
    assert {(s.picture.size, s.picture.mode) for s in found} == {(SIZE, "RGB")}


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (4, [0, 3, 6, 9]),
        # Every 2.4th: 0, 2.4, 4.8, 7.2, 9.6.
        (5, [0, 2, 4, 7, 9]),
        (12, list(range(12))),
        (50, list(range(12))),
    ],
)
def test_a_limit_takes_evenly_spaced_ones(tmp_path: Path, limit: int, expected: list[int]) -> None:
    specimens = _specimens(_folder(tmp_path / "horses", 12), limit=limit)
    assert len(specimens) == len(expected)
    assert _greys(specimens) == [10 * number for number in expected]


def test_pictures_are_scaled_to_a_side_with_their_masks(tmp_path: Path) -> None:
    """The shorter one: 16 x 12 pixels become 48 x 36, and a mask of the left half stays that."""
    folder = _folder(tmp_path / "horses", 4)
    for number in range(4):
        pixels = np.zeros((12, 16), np.uint8)
        pixels[:, :8] = 255
        _mask(tmp_path / "masks" / f"{number:02}.png", pixels)
    scaled = _specimens(folder, tmp_path / "masks", side=36)
    assert scaled.size == "scaled to 36 pixels"
    assert _specimens(folder).size == "at their own size"
    for specimen in scaled:
        assert specimen.picture.size == (48, 36)
        assert specimen.mask is not None and specimen.mask.shape == (36, 48)
        assert specimen.mask[:, :24].all() and not specimen.mask[:, 24:].any()
    place, other = _at(folder), _at(_folder(tmp_path / "zebras", 4))
    opened, _ = load_eval_datasets(place, other, LABELS, 16, side=27)
    assert {specimen.picture.size for specimen in opened} == {(36, 27)}
    with pytest.raises(EvaluationError, match="Pictures of 8 pixels a side are too small"):
        load_eval_datasets(place, other, LABELS, 16, side=8)


def test_fewer_than_four_are_too_few(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="3 horse picture"):
        _specimens(_folder(tmp_path / "horses", 3))
    assert len(_specimens(_folder(tmp_path / "more", 4))) == 4


def test_what_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "horses", 7)
    whole = (folder / "01.png").read_bytes()
    (folder / "01.png").write_bytes(whole[: len(whole) // 2])
    (folder / "04.png").write_text("no picture")
    specimens = _specimens(folder)
    assert len(specimens) == 7
    for _ in range(2):  # named once, however often they are asked for
        assert _greys(specimens) == [0, 20, 30, 50, 60]
        assert [name.split()[0] for name in specimens.unreadable] == ["01.png", "04.png"]


def test_no_path_of_the_machine_is_told(tmp_path: Path) -> None:
    """Reports are published with what these say."""
    folder = _folder(tmp_path / "horses", 6)
    (folder / "04.png").write_text("no picture")
    specimens = _specimens(folder)
    told = [specimens.dataset, specimens.split, *(specimen.name for specimen in specimens)]
    assert specimens.dataset == "horses (a folder)"
    assert not [text for text in told + specimens.unreadable if str(tmp_path) in text]


def test_the_folder_in_which_one_stands_has_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(_folder(tmp_path / "horses", 4))
    assert _specimens(Path()).dataset == "horses (a folder)"


def test_masks_are_found_by_name_whatever_the_ending(tmp_path: Path) -> None:
    folder, masks = _folder(tmp_path / "horses", 4, ending="jpg"), tmp_path / "masks"
    for number in range(4):
        pixels = np.zeros((12, 16), np.uint8)
        pixels[:, : number + 1] = 255
        _mask(masks / f"{number:02}.{('png', 'bmp')[number % 2]}", pixels)
    (masks / "00.txt").write_text("no mask")
    specimens = _specimens(folder, masks)
    for number, specimen in enumerate(specimens):
        assert specimen.mask is not None and specimen.mask.dtype == bool
        expected = np.zeros((12, 16), bool)
        expected[:, : number + 1] = True
        assert np.array_equal(specimen.mask, expected)


def test_a_labels_own_masks_come_first(tmp_path: Path) -> None:
    """The same name may stand for one picture of each domain."""
    folder, masks = _folder(tmp_path / "horses", 4), tmp_path / "masks"
    for number in range(4):
        _mask(masks / f"{number:02}.png", np.full((12, 16), 255, np.uint8))
    _mask(masks / "horse" / "02.png", np.zeros((12, 16), np.uint8))
    _mask(masks / "zebra" / "03.png", np.zeros((12, 16), np.uint8))
    shares = [specimen.mask.mean() for specimen in _specimens(folder, masks)]  # type: ignore[union-attr]
    assert shares == [1, 1, 0, 1]


def test_dark_greys_are_no_object_and_sizes_are_fitted(tmp_path: Path) -> None:
    folder, masks = _folder(tmp_path / "horses", 4), tmp_path / "masks"
    # Half the picture's size: each of its pixels stands for two by two.
    small = np.tile(np.array([0, 127, 128, 255, 0, 0, 0, 0], np.uint8), (6, 1))
    for number in range(4):
        _mask(masks / f"{number:02}.png", small)
    expected = np.tile(np.array([0] * 4 + [1] * 4 + [0] * 8, bool), (12, 1))
    for specimen in _specimens(folder, masks):
        assert specimen.mask is not None and np.array_equal(specimen.mask, expected)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.unlink(), "holds no mask for 02.png: one named 02.png is needed"),
        (
            lambda path: _mask(path, np.zeros((16, 16), np.uint8)),
            "is 16 x 16 pixels, and its picture 16 x 12: their shapes differ",
        ),
        # A picture lying on its side has as many pixels.
        (lambda path: _mask(path, np.zeros((16, 12), np.uint8)), "is 12 x 16 pixels"),
        (lambda path: path.write_text("no mask"), "cannot be read"),
    ],
    ids=["missing", "another shape", "on its side", "damaged"],
)
def test_a_mask_that_is_of_no_use(tmp_path: Path, spoil: object, said: str) -> None:
    folder, masks = _folder(tmp_path / "horses", 4), tmp_path / "masks"
    for number in range(4):
        _mask(masks / f"{number:02}.png", np.zeros((12, 16), np.uint8))
    spoil(masks / "02.png")  # type: ignore[operator]
    with pytest.raises(EvaluationError, match=said):
        list(_specimens(folder, masks))


def _at(path: Path | str, **settings: str) -> DomainConfig:
    return DomainConfig(path=str(path), **settings)  # type: ignore[arg-type]


def test_two_folders(tmp_path: Path) -> None:
    horses, zebras = _folder(tmp_path / "horses", 5), _folder(tmp_path / "zebras", 6, first=10)
    source, target = load_eval_datasets(_at(horses), _at(zebras), LABELS, 16, limit=5)
    assert (source.label, target.label) == LABELS
    assert (source.dataset, target.dataset) == ("horses (a folder)", "zebras (a folder)")
    assert _greys(source) == [0, 10, 20, 30, 40]
    assert _greys(target) == [100, 110, 120, 130, 140]


def test_one_folder_of_both_domains(tmp_path: Path) -> None:
    root = tmp_path / "horse2zebra"
    for number, name in enumerate(("trainA", "trainB", "testA", "testB")):
        _folder(root / name, 5, first=5 * number)
    source, target = load_eval_datasets(
        _at(root, data_dir="testA"), _at(root, data_dir="testB"), LABELS, 16
    )
    assert _greys(source) == [100, 110, 120, 130, 140]
    assert _greys(target) == [150, 160, 170, 180, 190]
    # The folders that tell the domains apart are found by themselves, and the split is told.
    source, target = load_eval_datasets(
        _at(root, split="test"), _at(root, split="test"), LABELS, 16
    )
    assert (_greys(source)[0], _greys(target)[0]) == (100, 150)
    assert (source.split, target.split) == ("test", "test")
    assert source.dataset == target.dataset == "horse2zebra (a folder)"


def test_shapes_are_drawn_for_a_model_of_either_way() -> None:
    shape = _at("shapes")
    for labels in (shapes.LABELS, shapes.LABELS[::-1]):
        one, other = load_eval_datasets(shape, shape, labels, 16, limit=4)
        assert (one.label, other.label, len(one), len(other)) == (*labels, 4, 4)
        expected, _ = shapes.draw(labels[0], 3, 16, seed=1)
        assert list(one)[3].picture.tobytes() == expected.tobytes()
    one, _ = load_eval_datasets(shape, shape, shapes.LABELS, 16)
    assert len(one) == 200
    one, _ = load_eval_datasets(shape, shape, shapes.LABELS, 16, limit=4, shapes_seed=2)
    assert next(iter(one)).picture.tobytes() == shapes.draw("plain", 0, 16, 2)[0].tobytes()


def test_shapes_beside_a_folder_are_refused(tmp_path: Path) -> None:
    """Opened as a domain they would be the drawings that training sees."""
    zebras = _folder(tmp_path / "zebras", 4)
    with pytest.raises(EvaluationError, match="shapes is one domain and a place of your own"):
        load_eval_datasets(
            _at("shapes", name="plain"), _at(zebras), ("plain", "zebra"), 64, limit=4
        )


def test_what_is_refused(tmp_path: Path) -> None:
    horses, zebras = _at(_folder(tmp_path / "horses", 5)), _at(_folder(tmp_path / "zebras", 5))
    shape = _at("shapes")
    with pytest.raises(EvaluationError, match="between horse and zebra; shapes has plain and stri"):
        load_eval_datasets(shape, shape, LABELS, 16)
    with pytest.raises(EvaluationError, match=r"There is no folder of masks .*nowhere"):
        load_eval_datasets(horses, zebras, LABELS, 16, masks=tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match=r"3 picture.* too few"):
        load_eval_datasets(horses, zebras, LABELS, 16, limit=3)
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_eval_datasets(horses, _at(tmp_path / "nowhere"), LABELS, 16)
