"""Distances between two sets of images by their features: KID and FID, computed by torch-fidelity."""

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
    """Kernel inception distance, the unbiased squared MMD; lower is better, may be slightly negative."""

    mean: float
    """Over the subsets."""
    std: float
    """Standard deviation over the subsets."""
    standard_error: float
    """By bootstrap over images: how much the value would vary between test sets."""
    subset_size: int
    subsets: int


def kid(real: Tensor, fake: Tensor, protocol: Protocol) -> Kid:
    """Compute the kernel inception distance (Binkowski et al., 2018) of (N, d) and (M, d) features.

    Raises:
        EvaluationError: If a set has fewer than two images.
    """
    from torch_fidelity.metric_kid import (
        KEY_METRIC_KID_MEAN,
        KEY_METRIC_KID_STD,
        kid_features_to_metric,
    )

    size = min(protocol.subset_size, len(real), len(fake))
    if size < 2:
        raise EvaluationError("KID needs two images or more in each set.")
    found = kid_features_to_metric(
        fake,
        real,
        kid_subsets=protocol.subsets,
        kid_subset_size=size,
        rng_seed=protocol.seed,
        verbose=False,
        **_KERNEL,
    )
    error = _standard_error(real.numpy(), fake.numpy(), protocol)
    mean, std = found[KEY_METRIC_KID_MEAN], found[KEY_METRIC_KID_STD]
    return Kid(mean, std, error, size, protocol.subsets)


def reference_kid(real: Tensor, protocol: Protocol) -> Kid:
    """Compute the distance between random halves of a set of real images, (N, d) float64.

    Raises:
        EvaluationError: If there are fewer than four images.
    """
    from torch_fidelity.metric_kid import kernel_mmd

    size = min(protocol.subset_size, len(real) // 2)
    if size < 2:
        raise EvaluationError("The KID reference needs four real images or more.")
    random = np.random.default_rng(protocol.seed)
    features = real.numpy()
    values = []
    for _ in range(protocol.subsets):
        order = random.permutation(len(features))
        halves = features[order[:size]], features[order[size : 2 * size]]
        values.append(kernel_mmd(*halves, **_KERNEL))
    half = len(features) // 2
    error = _standard_error(features[:half], features[half:], protocol)
    return Kid(float(np.mean(values)), float(np.std(values)), error, size, protocol.subsets)


def average(first: Kid, second: Kid) -> Kid:
    """Return the mean of two distances, for protocols that compare with both domains.

    Standard deviation and error are averaged too: the two are correlated, and the mean is an upper bound.
    """
    return replace(
        first,
        mean=(first.mean + second.mean) / 2,
        std=(first.std + second.std) / 2,
        standard_error=(first.standard_error + second.standard_error) / 2,
    )


def target_similarity(real: Tensor, fake: Tensor) -> Array:
    """Return each fake image's mean KID kernel with the real images, (M,)."""
    from torch_fidelity.metric_kid import kernel_poly

    kernel: Array = kernel_poly(fake.numpy(), real.numpy(), **_KERNEL)
    means: Array = kernel.mean(axis=1)
    return means


def fid(real: Tensor, fake: Tensor) -> float:
    """Compute the Frechet inception distance (Heusel et al., 2017); biased upwards for small sets."""
    from torch_fidelity.metric_fid import (
        KEY_METRIC_FID,
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )

    statistics = [fid_features_to_statistics(features) for features in (fake, real)]
    return float(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def _standard_error(real: Array, fake: Array, protocol: Protocol) -> float:
    """Return the bootstrap standard deviation of the distance between the whole sets.

    An image is never compared with itself: a repeated draw would count as similarity.
    """
    from torch_fidelity.metric_kid import kernel_poly

    random = np.random.default_rng(protocol.seed)
    within_real, within_fake = (kernel_poly(x, x, **_KERNEL) for x in (real, fake))
    between = kernel_poly(real, fake, **_KERNEL)
    values = []
    for _ in range(protocol.bootstraps):
        r, f = _bootstrap_counts(random, len(real)), _bootstrap_counts(random, len(fake))
        across = r @ between @ f / (r.sum() * f.sum())
        values.append(_off_diagonal(within_real, r) + _off_diagonal(within_fake, f) - 2 * across)
    return float(np.std(values, ddof=1))


def _bootstrap_counts(random: np.random.Generator, count: int) -> Array:
    """Draw `count` of `count` images with repetition, at least two different ones; return counts."""
    while True:
        counts = random.multinomial(count, np.full(count, 1 / count)).astype(np.float64)
        if np.count_nonzero(counts) > 1:
            return counts


def _off_diagonal(kernel: Array, counts: Array) -> float:
    """Return the mean of a kernel over pairs of different images, weighted by their counts."""
    pairs = counts.sum() ** 2 - (counts**2).sum()
    return float((counts @ kernel @ counts - (counts**2) @ np.diagonal(kernel)) / pairs)
