"""The image pool: what is kept, what is handed out, and that a resumed one goes on alike."""

import io

import pytest
import torch
from torch import Tensor

from agit_hub.training.image_pool import ImagePool

CPU = torch.device("cpu")


def _fakes(*numbers: int) -> tuple[Tensor, Tensor]:
    """Pictures full of their number, with maps full of a hundredth of it."""
    images = torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return images.clone(), images[:, :1] / 100


def _ask(pool: ImagePool, *numbers: int) -> list[int]:
    """The numbers that come back, once it is certain that each brought its own map."""
    given = _fakes(*numbers)
    images, attention = pool.query(*given)
    assert images.shape == given[0].shape and attention.shape == given[1].shape
    assert torch.equal(attention, images[:, :1] / 100)
    return [int(image[0, 0, 0]) for image in images]


def _kept(pool: ImagePool) -> list[int]:
    state = pool.state_dict()
    assert torch.equal(state["attention"], state["images"][:, :1] / 100)
    return [int(image[0, 0, 0]) for image in state["images"]]


def test_it_fills_first_and_hands_back_what_it_is_given() -> None:
    pool = ImagePool(3, seed=0)
    assert _ask(pool, 1, 2) == [1, 2] and len(pool) == 2
    assert _ask(pool, 3) == [3] and len(pool) == 3
    assert _kept(pool) == [1, 2, 3]


def test_then_half_are_swapped_for_old_ones_from_anywhere_and_none_is_lost() -> None:
    pool = ImagePool(10, seed=0)
    _ask(pool, *range(10))
    came_back = [_ask(pool, number)[0] for number in range(10, 2010)]
    assert len(pool) == 10
    old = [came != given for came, given in zip(came_back, range(10, 2010), strict=True)]
    assert 0.45 < sum(old) / 2000 < 0.55
    # Whatever went in has come out once or is in there still; so all of the first ten left.
    assert sorted(came_back + _kept(pool)) == list(range(2010))
    assert set(range(10)) <= set(came_back)
    # A batch is so many single pictures, each with its own odds.
    together = ImagePool(10, seed=0)
    batches = [_ask(together, *range(k, k + 10)) for k in range(0, 2010, 10)]
    assert [number for batch in batches[1:] for number in batch] == came_back


def test_without_room_every_picture_passes_straight_through() -> None:
    pool = ImagePool(0, seed=0)
    for number in range(20):
        assert _ask(pool, number, number + 100) == [number, number + 100]
    assert len(pool) == 0


def test_its_choices_are_the_seeds() -> None:
    def history(seed: int) -> list[int]:
        torch.seed()  # the stream of everything else has no part in it
        pool = ImagePool(4, seed)
        return [_ask(pool, number)[0] for number in range(60)]

    assert history(5) == history(5)
    assert history(5) != history(6)


def test_drawing_takes_stored_pairs_and_leaves_them_there() -> None:
    pool = ImagePool(4, seed=1)
    for number in range(1, 4):
        pool.query(*_fakes(number))
    kept, before = _kept(pool), pool.state_dict()
    torch.seed()  # the stream of everything else has no part in it
    images, attention = pool.draw(60)
    again = ImagePool(4, seed=1)
    again.load_state_dict(before, CPU)
    assert torch.equal(again.draw(60)[0], images)
    assert images.shape == (60, 3, 2, 2) and torch.equal(attention, images[:, :1] / 100)
    assert set(images[:, 0, 0, 0].tolist()) == {1, 2, 3}
    assert _kept(pool) == kept == [1, 2, 3]


@pytest.mark.parametrize("filled", [0, 2, 4, 30], ids=["empty", "half", "full", "used"])
def test_a_resumed_pool_has_the_same_future(filled: int) -> None:
    pool, resumed = ImagePool(4, seed=1), ImagePool(4, seed=2)
    for number in range(filled):
        _ask(pool, number)
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True), CPU)
    assert len(resumed) == len(pool) == min(filled, 4)
    for number in range(100, 160, 2):
        assert _ask(resumed, number, number + 1) == _ask(pool, number, number + 1)


def test_what_it_keeps_is_a_copy_without_a_graph() -> None:
    pool = ImagePool(1, seed=0)
    for number in range(1, 40):
        overwritten = _fakes(number)
        pool.query(*overwritten)
        for given in overwritten:
            given.fill_(-1)
        assert min(_kept(pool)) > 0
        image, attention = (given.requires_grad_() for given in _fakes(number))
        assert not any(given.requires_grad for given in pool.query(image * 1, attention * 1))
        assert not pool.state_dict()["images"].requires_grad
