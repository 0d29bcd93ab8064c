"""Distances between two sets of pictures by their features: KID and FID, by torch-fidelity."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.protocols import Protocol

Array = npt.NDArray[np.float64]

# k(x, y) = (x.y / d + 1)^3
_KERNEL: dict[str, Any] = {
    "kid_kernel": "poly",
    "kid_kernel_poly_degree": 3,
    "kid_kernel_poly_gamma": None,
    "kid_kernel_poly_coef0": 1,
}


@dataclass(frozen=True)
class Kid:
    """Kernel inception distance, the unbiased squared MMD; lower is better, slightly below 0 is none."""

    mean: float
    """Over the subsets."""
    std: float
    """Standard deviation over the subsets: how far one subset is from another."""
    standard_error: float
    """By bootstrap over pictures: how far another test set's figure would be from this one."""
    subset_size: int
    subsets: int


def kid(real: Tensor, fake: Tensor, protocol: Protocol) -> Kid:
    """Kernel inception distance (Binkowski et al., 2018) between two sets of features.

    Args:
        real: (N, d) float64.
        fake: (M, d) float64.
        protocol: Subsets, bootstrap and seed.

    Raises:
        EvaluationError: If a set has fewer than two pictures.
    """
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    size = min(protocol.subset_size, len(real), len(fake))
    if size < 2:
        raise EvaluationError("KID needs two pictures or more in each set.")
    found = kid_features_to_metric(
        fake,
        real,
        kid_subsets=protocol.subsets,
        kid_subset_size=size,
        rng_seed=protocol.seed,
        verbose=False,
        **_KERNEL,
    )
    return Kid(
        found[KEY_METRIC_KID_MEAN],
        found[KEY_METRIC_KID_STD],
        _standard_error(real.numpy(), fake.numpy(), protocol),
        size,
        protocol.subsets,
    )


def kid_floor(real: Tensor, protocol: Protocol) -> Kid:
    """The distance of real pictures from other real ones: halves of a set, parted anew each time.

    Args:
        real: (N, d) float64, N of 4 or more.
        protocol: As for `kid`; a subset is at most half of the pictures.
    """
    from torch_fidelity.metric_kid import kernel_mmd

    size = min(protocol.subset_size, len(real) // 2)
    if size < 2:
        raise EvaluationError("A floor needs four real pictures or more.")
    random = np.random.default_rng(protocol.seed)
    features = real.numpy()
    values = []
    for _ in range(protocol.subsets):
        order = random.permutation(len(features))
        halves = features[order[:size]], features[order[size : 2 * size]]
        values.append(kernel_mmd(*halves, **_KERNEL))
    half = len(features) // 2
    # Of two sets of half the size, which is what the floor compares.
    error = _standard_error(features[:half], features[half:], protocol)
    return Kid(float(np.mean(values)), float(np.std(values)), error, size, protocol.subsets)


def average(one: Kid, other: Kid) -> Kid:
    """The mean of two distances, as protocols have it whose reference is both domains.

    Deviation and error are means too: they are not independent, and the mean is their upper bound.
    """
    return replace(
        one,
        mean=(one.mean + other.mean) / 2,
        std=(one.std + other.std) / 2,
        standard_error=(one.standard_error + other.standard_error) / 2,
    )


def target_similarity(real: Tensor, fake: Tensor) -> Array:
    """How like the real pictures each fake is: its mean KID kernel with them, (M,)."""
    from torch_fidelity.metric_kid import kernel_poly

    kernel: Array = kernel_poly(fake.numpy(), real.numpy(), **_KERNEL)
    means: Array = kernel.mean(axis=1)
    return means


def fid(real: Tensor, fake: Tensor) -> float:
    """Frechet inception distance (Heusel et al., 2017); biased upwards for sets as small as these."""
    from torch_fidelity.metric_fid import (
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    statistics = [fid_features_to_statistics(features) for features in (fake, real)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def _standard_error(real: Array, fake: Array, protocol: Protocol) -> float:
    """Standard deviation of the whole sets' distance, their pictures drawn anew with repeats.

    A picture is never compared with itself, so that repeats do not look like likeness.
    """
    from torch_fidelity.metric_kid import kernel_poly

    random = np.random.default_rng(protocol.seed)
    within_real, within_fake = (kernel_poly(x, x, **_KERNEL) for x in (real, fake))
    between = kernel_poly(real, fake, **_KERNEL)
    values = []
    for _ in range(protocol.bootstraps):
        r, f = _drawn(random, len(real)), _drawn(random, len(fake))
        across = r @ between @ f / (r.sum() * f.sum())
        values.append(_off_diagonal(within_real, r) + _off_diagonal(within_fake, f) - 2 * across)
    return float(np.std(values, ddof=1))


def _drawn(random: np.random.Generator, count: int) -> Array:
    """How often each of `count` pictures comes up in as many draws; never one of them alone."""
    while True:
        times = random.multinomial(count, np.full(count, 1 / count)).astype(np.float64)
        if np.count_nonzero(times) > 1:
            return times


def _off_diagonal(kernel: Array, times: Array) -> float:
    """Mean of a kernel over pairs of different pictures, each counted as often as it was drawn."""
    pairs = times.sum() ** 2 - (times**2).sum()
    return float((times @ kernel @ times - (times**2) @ np.diagonal(kernel)) / pairs)
