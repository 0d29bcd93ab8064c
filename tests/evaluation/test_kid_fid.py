"""KID and FID against literal implementations that share no code with the library."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.kid_fid import average, fid, kid, reference_kid
from agit_hub.evaluation.protocols import Protocol

Array = npt.NDArray[np.float64]


def _kernel(x: Array, y: Array) -> float:
    return float((sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3)


def _squared_mmd(fake: Array, real: Array) -> float:
    """Compute the unbiased estimator literally: means over pairs of different images."""
    within = [
        np.mean([_kernel(a, b) for a, b in itertools.permutations(features, 2)])
        for features in (fake, real)
    ]
    between = np.mean([_kernel(a, b) for a in fake for b in real])
    return float(sum(within) - 2 * between)


def _sets(seed: int, shift: float = 0.4) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    real = random.normal(size=(23, 6)) * random.uniform(0.5, 3, 6)
    fake = random.normal(size=(17, 6)) * random.uniform(0.5, 3, 6) + shift
    return torch.from_numpy(real), torch.from_numpy(fake)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kid_equals_the_literal_estimator_on_the_same_subsets(seed: int) -> None:
    real, fake = _sets(seed)
    found = kid(real, fake, Protocol("test", "lite0", subset_size=11, subsets=5, seed=seed))
    # The library draws from each set in turn, translations first.
    random = np.random.RandomState(seed)
    values = []
    for _ in range(5):
        f = fake.numpy()[random.choice(17, 11, replace=False)]
        r = real.numpy()[random.choice(23, 11, replace=False)]
        values.append(_squared_mmd(f, r))
    assert found.mean == pytest.approx(np.mean(values), rel=1e-6)
    assert found.std == pytest.approx(np.std(values), rel=1e-6)
    assert (found.subset_size, found.subsets) == (11, 5)


def test_kid_subset_is_limited_by_the_smaller_set() -> None:
    real, fake = _sets(0)
    protocol = Protocol("test", "lite0", subset_size=1000, subsets=3)
    found = kid(real, fake, protocol)
    assert found.subset_size == 17
    # Every subset is then the whole smaller set, and so is each of as many real images.
    same = kid(real[:17], fake, protocol)
    assert same.std == pytest.approx(0, abs=1e-12)
    assert same.mean == pytest.approx(_squared_mmd(fake.numpy(), real[:17].numpy()), rel=1e-9)
    with pytest.raises(EvaluationError, match="two images"):
        kid(real, fake[:1], protocol)


def test_kid_standard_error_equals_the_spread_over_new_sets() -> None:
    """The spread is measured by drawing new sets, not by bootstrap."""
    random = np.random.default_rng(5)

    def draw() -> tuple[torch.Tensor, torch.Tensor]:
        return (
            torch.from_numpy(random.normal(size=(60, 4))),
            torch.from_numpy(random.normal(size=(60, 4)) + 0.8),
        )

    protocol = Protocol("test", "lite0", subset_size=60, subsets=1, bootstraps=300)
    trials = [kid(*draw(), protocol) for _ in range(40)]
    spread = np.std([trial.mean for trial in trials], ddof=1)
    claimed = np.mean([trial.standard_error for trial in trials])
    assert claimed == pytest.approx(spread, rel=0.35)


def test_kid_is_between_reference_and_baseline() -> None:
    random = np.random.default_rng(3)
    real = torch.from_numpy(random.normal(size=(80, 6)))
    inputs = torch.from_numpy(random.normal(size=(60, 6)) + 1)
    half_way = torch.from_numpy(random.normal(size=(60, 6)) + 0.5)
    protocol = Protocol("test", "lite0", subset_size=40, subsets=100)
    reference, between = reference_kid(real, protocol), kid(real, half_way, protocol)
    baseline = kid(real, inputs, protocol)
    assert reference.mean < between.mean / 4 < baseline.mean / 8
    # Two halves of one set differ by chance alone.
    assert abs(reference.mean) < reference.std / 5
    assert reference.subset_size == 40


def test_reference_kid_never_compares_an_image_with_itself() -> None:
    # All images are orthogonal: one in both halves would make them similar.
    features = torch.eye(8, dtype=torch.float64) * 8
    found = reference_kid(features, Protocol("test", "lite0", subset_size=100, subsets=7))
    # k is (0 + 1)^3 for every pair of different images, within halves and between them.
    assert (found.mean, found.std, found.subset_size) == (0, 0, 4)
    with pytest.raises(EvaluationError, match="four real images"):
        reference_kid(features[:3], Protocol("test", "lite0"))


def test_average_is_the_mean_of_both_distances() -> None:
    real, fake = _sets(4)
    protocol = Protocol("test", "lite0", subset_size=9, subsets=4)
    one, other = kid(real, fake, protocol), kid(real + 1, fake, protocol)
    both = average(one, other)
    assert both.mean == pytest.approx((one.mean + other.mean) / 2)
    assert both.std == pytest.approx((one.std + other.std) / 2)


def test_fid_of_known_gaussians_is_exact() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2, where covariances are diagonal."""
    # Four points each: means (0, 0) and (3, 1), sample variances exact by construction.
    square = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    scale_r, scale_f = torch.tensor([2.0, 1.0]), torch.tensor([0.5, 4.0])
    real, fake = square * scale_r, square * scale_f + torch.tensor([3.0, 1.0])
    unit = (4 / 3) ** 0.5  # the standard deviation of +-1 over four points, by n - 1
    expected = 9 + 1 + ((1.5 * unit) ** 2 + (3 * unit) ** 2)
    assert fid(real, fake) == pytest.approx(expected)
    assert fid(real, real) == pytest.approx(0, abs=1e-6)
