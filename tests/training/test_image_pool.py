"""Image pool: stored and returned images, and resuming."""

import io

import pytest
import torch
from torch import Tensor

from agit_hub.training.image_pool import ImagePool

CPU = torch.device("cpu")


def _fakes(*numbers: int) -> tuple[Tensor, Tensor]:
    """Images filled with their number, and maps with a hundredth of it."""
    images = torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)
    return images.clone(), images[:, :1] / 100


def _query(pool: ImagePool, *numbers: int) -> list[int]:
    """Query the pool, check that each image has its own map, and return the numbers of the images."""
    given = _fakes(*numbers)
    images, attention = pool.query(*given)
    assert images.shape == given[0].shape and attention.shape == given[1].shape
    assert torch.equal(attention, images[:, :1] / 100)
    return [int(image[0, 0, 0]) for image in images]


def _kept(pool: ImagePool) -> list[int]:
    state = pool.state_dict()
    assert torch.equal(state["attention"], state["images"][:, :1] / 100)
    return [int(image[0, 0, 0]) for image in state["images"]]


def test_query_pool_not_full_stores_and_returns_images() -> None:
    pool = ImagePool(3, seed=0)
    assert _query(pool, 1, 2) == [1, 2] and len(pool) == 2
    assert _query(pool, 3) == [3] and len(pool) == 3
    assert _kept(pool) == [1, 2, 3]


def test_query_full_pool_swaps_half_and_loses_none() -> None:
    pool = ImagePool(10, seed=0)
    _query(pool, *range(10))
    returned = [_query(pool, number)[0] for number in range(10, 2010)]
    assert len(pool) == 10
    old = [new != given for new, given in zip(returned, range(10, 2010), strict=True)]
    assert 0.45 < sum(old) / 2000 < 0.55
    # Each image was returned once or is still stored; all of the first ten were returned.
    assert sorted(returned + _kept(pool)) == list(range(2010))
    assert set(range(10)) <= set(returned)
    # A batch is treated as single images, each with its own draw.
    together = ImagePool(10, seed=0)
    batches = [_query(together, *range(k, k + 10)) for k in range(0, 2010, 10)]
    assert [number for batch in batches[1:] for number in batch] == returned


def test_query_capacity_zero_returns_images() -> None:
    pool = ImagePool(0, seed=0)
    for number in range(20):
        assert _query(pool, number, number + 100) == [number, number + 100]
    assert len(pool) == 0


def test_query_depends_on_seed_only() -> None:
    def history(seed: int) -> list[int]:
        torch.seed()  # the global random state has no influence
        pool = ImagePool(4, seed)
        return [_query(pool, number)[0] for number in range(60)]

    assert history(5) == history(5)
    assert history(5) != history(6)


def test_draw_returns_stored_pairs_and_keeps_them() -> None:
    pool = ImagePool(4, seed=1)
    for number in range(1, 4):
        pool.query(*_fakes(number))
    kept, before = _kept(pool), pool.state_dict()
    torch.seed()  # the global random state has no influence
    images, attention = pool.draw(60)
    again = ImagePool(4, seed=1)
    again.load_state_dict(before, CPU)
    assert torch.equal(again.draw(60)[0], images)
    assert images.shape == (60, 3, 2, 2) and torch.equal(attention, images[:, :1] / 100)
    assert set(images[:, 0, 0, 0].tolist()) == {1, 2, 3}
    assert _kept(pool) == kept == [1, 2, 3]


@pytest.mark.parametrize("filled", [0, 2, 4, 30], ids=["empty", "half", "full", "used"])
def test_image_pool_resumed_makes_same_choices(filled: int) -> None:
    pool, resumed = ImagePool(4, seed=1), ImagePool(4, seed=2)
    for number in range(filled):
        _query(pool, number)
    file = io.BytesIO()
    torch.save(pool.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True), CPU)
    assert len(resumed) == len(pool) == min(filled, 4)
    for number in range(100, 160, 2):
        assert _query(resumed, number, number + 1) == _query(pool, number, number + 1)


def test_query_stores_detached_copies() -> None:
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
