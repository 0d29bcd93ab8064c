"""Evaluation images: which are taken, in what order, with which masks."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.load import load_domains
from agit_hub.errors import DataError, EvaluationError, MaskError
from agit_hub.evaluation.datasets import (
    DomainEvalDataset,
    EvalDataset,
    ShapesEvalDataset,
    load_eval_datasets,
)

SIZE = (16, 12)
LABELS = ("horse", "zebra")


def _folder(path: Path, count: int, ending: str = "png", first: int = 0) -> Path:
    """Write images `00`, `01`, ..., each of a grey of ten times its number."""
    path.mkdir(parents=True)
    for number in range(first, first + count):
        Image.new("RGB", SIZE, (10 * number,) * 3).save(path / f"{number:02}.{ending}")
    return path


def _mask(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _dataset(
    folder: Path, masks: Path | None = None, limit: int | None = None, side: int | None = None
) -> DomainEvalDataset:
    config = DomainConfig(path=str(folder))
    loaded, _ = load_domains(config, DomainConfig(path="shapes", name="plain"), None, 1)
    return DomainEvalDataset(loaded, "horse", masks, limit, side)


def _greys(dataset: EvalDataset) -> list[int]:
    return [item.image.getpixel((0, 0))[0] for item in dataset]  # type: ignore[index]


@pytest.mark.parametrize("label", shapes.LABELS)
def test_shapes_dataset_shares_no_drawing_with_training_or_validation(label: str) -> None:
    drawn = list(ShapesEvalDataset(label, 20, 32))
    assert len(drawn) == len(ShapesEvalDataset(label, 20, 32)) == 20
    pixels = {item.image.tobytes() for item in drawn}
    assert len(pixels) == 20
    for seed in (0, 2):
        others = {shapes.draw(label, number, 32, seed)[0].tobytes() for number in range(60)}
        assert not pixels & others
    assert pixels == {s.image.tobytes() for s in ShapesEvalDataset(label, 20, 32)}


def test_shapes_dataset_masks_are_the_drawings_own() -> None:
    plain, striped = (ShapesEvalDataset(label, 12, 32) for label in shapes.LABELS)
    assert plain.label == "plain"
    for number, item in enumerate(striped):
        assert item.mask is not None and item.mask.dtype == bool
        assert item.mask.shape == (32, 32) and 0 < item.mask.mean() < 1
        image, mask = shapes.draw("striped", number, 32, seed=1)
        assert np.array_equal(item.mask, mask)
        assert item.image.tobytes() == image.tobytes()


def test_folder_dataset_iterates_all_images_in_order(tmp_path: Path) -> None:
    dataset = _dataset(_folder(tmp_path / "horses", 12))
    assert (len(dataset), dataset.label) == (12, "horse")
    for _ in range(2):  # a second iteration is the same
        assert _greys(dataset) == [10 * number for number in range(12)]
    found = list(dataset)
    assert [item.name for item in found] == [f"{number:02}.png" for number in range(12)]
    assert all(item.mask is None for item in found)
    assert {(s.image.size, s.image.mode) for s in found} == {(SIZE, "RGB")}


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
def test_dataset_limit_takes_evenly_spaced_images(
    tmp_path: Path, limit: int, expected: list[int]
) -> None:
    dataset = _dataset(_folder(tmp_path / "horses", 12), limit=limit)
    assert len(dataset) == len(expected)
    assert _greys(dataset) == [10 * number for number in expected]


def test_dataset_side_resizes_images_and_masks(tmp_path: Path) -> None:
    """The shorter side: 16 x 12 pixels become 48 x 36, and a mask of the left half stays that."""
    folder = _folder(tmp_path / "horses", 4)
    for number in range(4):
        pixels = np.zeros((12, 16), np.uint8)
        pixels[:, :8] = 255
        _mask(tmp_path / "masks" / f"{number:02}.png", pixels)
    scaled = _dataset(folder, tmp_path / "masks", side=36)
    assert scaled.size == "scaled to 36 pixels"
    assert _dataset(folder).size == "at their own size"
    for item in scaled:
        assert item.image.size == (48, 36)
        assert item.mask is not None and item.mask.shape == (36, 48)
        assert item.mask[:, :24].all() and not item.mask[:, 24:].any()
    place, other = _at(folder), _at(_folder(tmp_path / "zebras", 4, first=10))
    loaded, _ = load_eval_datasets(place, other, LABELS, 16, side=27)
    assert {item.image.size for item in loaded} == {(36, 27)}
    with pytest.raises(EvaluationError, match=r"side is 8.*too small"):
        load_eval_datasets(place, other, LABELS, 16, side=8)


def test_dataset_of_fewer_than_four_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="3 horse image"):
        _dataset(_folder(tmp_path / "horses", 3))
    assert len(_dataset(_folder(tmp_path / "more", 4))) == 4


def test_dataset_skips_unreadable_images_and_lists_them(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "horses", 7)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for name in ("01.png", "04.png"):  # whole headers, and half of the pixels
        Image.fromarray(noise).save(folder / name)
        (folder / name).write_bytes((folder / name).read_bytes()[:1500])
    dataset = _dataset(folder)
    assert len(dataset) == 7
    for _ in range(2):  # listed once, even after two iterations
        assert _greys(dataset) == [0, 20, 30, 50, 60]
        assert [name.split()[0] for name in dataset.unreadable] == ["01.png", "04.png"]


def test_dataset_reports_no_path_of_the_machine(tmp_path: Path) -> None:
    """Reports are published with these texts."""
    folder = _folder(tmp_path / "horses", 6)
    (folder / "04.png").write_text("no image")
    dataset = _dataset(folder)
    reported = [dataset.dataset, dataset.split, *(item.name for item in dataset)]
    assert dataset.dataset == "horses (a folder)"
    assert not [text for text in reported + dataset.unreadable if str(tmp_path) in text]


def test_dataset_of_the_working_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(_folder(tmp_path / "horses", 4))
    assert _dataset(Path()).dataset == "horses (a folder)"


def test_masks_are_found_by_name_with_any_ending(tmp_path: Path) -> None:
    folder, masks = _folder(tmp_path / "horses", 4, ending="jpg"), tmp_path / "masks"
    for number in range(4):
        pixels = np.zeros((12, 16), np.uint8)
        pixels[:, : number + 1] = 255
        _mask(masks / f"{number:02}.{('png', 'bmp')[number % 2]}", pixels)
    (masks / "00.txt").write_text("no mask")
    dataset = _dataset(folder, masks)
    for number, item in enumerate(dataset):
        assert item.mask is not None and item.mask.dtype == bool
        expected = np.zeros((12, 16), bool)
        expected[:, : number + 1] = True
        assert np.array_equal(item.mask, expected)


def test_masks_in_the_labels_folder_take_precedence(tmp_path: Path) -> None:
    """Images of both domains may have the same name."""
    folder, masks = _folder(tmp_path / "horses", 4), tmp_path / "masks"
    for number in range(4):
        _mask(masks / f"{number:02}.png", np.full((12, 16), 255, np.uint8))
    _mask(masks / "horse" / "02.png", np.zeros((12, 16), np.uint8))
    _mask(masks / "zebra" / "03.png", np.zeros((12, 16), np.uint8))
    shares = [item.mask.mean() for item in _dataset(folder, masks)]  # type: ignore[union-attr]
    assert shares == [1, 1, 0, 1]


def test_masks_are_cut_at_128_and_resized(tmp_path: Path) -> None:
    folder, masks = _folder(tmp_path / "horses", 4), tmp_path / "masks"
    # Half the image's size: each mask pixel covers two by two.
    small = np.tile(np.array([0, 127, 128, 255, 0, 0, 0, 0], np.uint8), (6, 1))
    for number in range(4):
        _mask(masks / f"{number:02}.png", small)
    expected = np.tile(np.array([0] * 4 + [1] * 4 + [0] * 8, bool), (12, 1))
    for item in _dataset(folder, masks):
        assert item.mask is not None and np.array_equal(item.mask, expected)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no mask for 02.png"),
        (
            lambda path: _mask(path, np.zeros((16, 16), np.uint8)),
            "02.png is 16 x 16.*16 x 12",
        ),
        # Rotated, with the same number of pixels.
        (lambda path: _mask(path, np.zeros((16, 12), np.uint8)), "02.png is 12 x 16"),
        (lambda path: path.write_text("no mask"), "02.png cannot be read"),
    ],
    ids=["missing", "another shape", "rotated", "damaged"],
)
def test_unusable_mask_is_refused(tmp_path: Path, damage: object, message: str) -> None:
    folder, masks = _folder(tmp_path / "horses", 4), tmp_path / "masks"
    for number in range(4):
        _mask(masks / f"{number:02}.png", np.zeros((12, 16), np.uint8))
    damage(masks / "02.png")  # type: ignore[operator]
    with pytest.raises((EvaluationError, MaskError), match=message):
        list(_dataset(folder, masks))


def _at(path: Path | str, **settings: str) -> DomainConfig:
    return DomainConfig(path=str(path), **settings)  # type: ignore[arg-type]


def test_load_eval_datasets_of_two_folders(tmp_path: Path) -> None:
    horses, zebras = _folder(tmp_path / "horses", 5), _folder(tmp_path / "zebras", 6, first=10)
    source, target = load_eval_datasets(_at(horses), _at(zebras), LABELS, 16, limit=5)
    assert (source.label, target.label) == LABELS
    assert (source.dataset, target.dataset) == ("horses (a folder)", "zebras (a folder)")
    assert _greys(source) == [0, 10, 20, 30, 40]
    assert _greys(target) == [100, 110, 120, 130, 140]


def test_load_eval_datasets_of_one_folder_with_both_domains(tmp_path: Path) -> None:
    root = tmp_path / "horse2zebra"
    for number, name in enumerate(("trainA", "trainB", "testA", "testB")):
        _folder(root / name, 5, first=5 * number)
    source, target = load_eval_datasets(
        _at(root, data_dir="testA"), _at(root, data_dir="testB"), LABELS, 16
    )
    assert _greys(source) == [100, 110, 120, 130, 140]
    assert _greys(target) == [150, 160, 170, 180, 190]
    # Without data_dir the domains' folders are found, and the split is reported.
    source, target = load_eval_datasets(
        _at(root, split="test"), _at(root, split="test"), LABELS, 16
    )
    assert (_greys(source)[0], _greys(target)[0]) == (100, 150)
    assert (source.split, target.split) == ("test", "test")
    assert source.dataset == target.dataset == "horse2zebra (a folder)"


def test_load_eval_datasets_draws_shapes_in_the_order_of_the_labels() -> None:
    shape = _at("shapes")
    for labels in (shapes.LABELS, shapes.LABELS[::-1]):
        one, other = load_eval_datasets(shape, shape, labels, 16, limit=4)
        assert (one.label, other.label, len(one), len(other)) == (*labels, 4, 4)
        expected, _ = shapes.draw(labels[0], 3, 16, seed=1)
        assert list(one)[3].image.tobytes() == expected.tobytes()
    one, _ = load_eval_datasets(shape, shape, shapes.LABELS, 16)
    assert len(one) == 200
    one, _ = load_eval_datasets(shape, shape, shapes.LABELS, 16, limit=4, shapes_seed=2)
    assert next(iter(one)).image.tobytes() == shapes.draw("plain", 0, 16, 2)[0].tobytes()


def test_load_eval_datasets_refuses_shapes_beside_a_folder(tmp_path: Path) -> None:
    """Loaded as a domain they would be the training's drawings."""
    zebras = _folder(tmp_path / "zebras", 4)
    with pytest.raises(EvaluationError, match=r"shapes.*both or neither"):
        load_eval_datasets(
            _at("shapes", name="plain"), _at(zebras), ("plain", "zebra"), 64, limit=4
        )


def test_load_eval_datasets_names_the_value_it_refuses(tmp_path: Path) -> None:
    horses, zebras = _at(_folder(tmp_path / "horses", 5)), _at(_folder(tmp_path / "zebras", 5))
    shape = _at("shapes")
    with pytest.raises(EvaluationError, match=r"horse and zebra.*plain and striped"):
        load_eval_datasets(shape, shape, LABELS, 16)
    with pytest.raises(EvaluationError, match=r"masks.*nowhere"):
        load_eval_datasets(horses, zebras, LABELS, 16, masks=tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match=r"limit is 3.*too few"):
        load_eval_datasets(horses, zebras, LABELS, 16, limit=3)
    with pytest.raises(DataError, match="nowhere"):
        load_eval_datasets(horses, _at(tmp_path / "nowhere"), LABELS, 16)


def test_load_eval_datasets_prefers_the_test_split(tmp_path: Path) -> None:
    root = tmp_path / "horse2zebra"
    for number, name in enumerate(("trainA", "trainB", "testA", "testB")):
        _folder(root / name, 5, first=5 * number)
    source, target = load_eval_datasets(_at(root), _at(root), LABELS, 16)
    assert (source.split, target.split) == ("test", "test")
    assert (_greys(source)[0], _greys(target)[0]) == (100, 150)
    assert any("10 images in split train skipped" in note for note in source.notes)
    source, _ = load_eval_datasets(_at(root, split="train"), _at(root, split="train"), LABELS, 16)
    assert source.split == "train"
