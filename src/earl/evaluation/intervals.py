"""Percentile bootstrap over tasks, and over training seeds and tasks: means with 95% intervals.

The package's one bootstrap. `estimate` takes one number a task, (T,), or seeds by tasks, (S, T);
`estimates` takes several scores of the same tasks at once; `paired_estimate` adds the p-value of a
mean difference. A NaN is a task without a verdict: it is in no mean.

Axis letters: S seeds of training, T tasks, K scores, R resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from earl.records import Estimate

Array = NDArray[np.float64]
RESAMPLES = 2_000
CONFIDENCE = 0.95
_BLOCK = 256  # resamples made at once: 2,000 x 10,000 counts would be 160 MB


def estimate(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate | None:
    """The mean of one score with its interval; None where no value is there.

    Seeds and tasks are both drawn with replacement, crossed. With one seed only tasks are drawn, so
    the interval leaves out what another training would have changed. Where all values are equal the
    interval has no width; rates of 0 and 1 should be read with their count.

    Args:
        values: (T,) a number a task, or (S, T) a number a training seed and task; NaN where missing.
        seed: of the drawing.
    """
    values_ST = np.atleast_2d(np.asarray(values, np.float64))
    return estimates(values_ST[:, :, None], seed=seed, resamples=resamples)[0]


def estimates(values: ArrayLike, *, seed: int = 0, resamples: int = RESAMPLES) -> list[Estimate | None]:
    """`estimate` of K scores, with the same tasks drawn for all.

    Args:
        values: (T, K), or (S, T, K).
    """
    values_STK = np.asarray(values, np.float64)
    values_STK = values_STK[None] if values_STK.ndim == 2 else values_STK
    counts_K = (~np.isnan(values_STK)).sum((0, 1))
    if not counts_K.any():
        return [None] * len(counts_K)
    means_RK = resampled_means(values_STK, seed=seed, resamples=resamples)
    edge = (1 - CONFIDENCE) / 2
    found: list[Estimate | None] = []
    for column, count in enumerate(counts_K):
        if not count:
            found.append(None)
            continue
        low, high = np.nanquantile(means_RK[:, column], [edge, 1 - edge])
        mean = np.nanmean(values_STK[..., column])
        found.append(Estimate(float(mean), float(low), float(high), int(count)))
    return found


def paired_estimate(differences_T: ArrayLike, *, resamples: int = 10_000) -> tuple[Estimate, float]:
    """The mean of paired differences (one at least, no NaN), and the two-sided p-value that it is 0.

    The p-value is twice the smaller share of resampled means on the other side of 0, with one added to
    both counts, so it is never 0.
    """
    values_STK = np.asarray(differences_T, np.float64)[None, :, None]
    means_R = resampled_means(values_STK, resamples=resamples)[:, 0]
    edge = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means_R, [edge, 1 - edge])
    other_side = min((means_R <= 0).sum(), (means_R >= 0).sum())
    p = min(1.0, 2 * float(other_side + 1) / (resamples + 1))
    return Estimate(float(values_STK.mean()), float(low), float(high), values_STK.size), p


def resampled_means(values_STK: Array, *, seed: int = 0, resamples: int = RESAMPLES) -> Array:
    """(R, K) means of seeds and tasks drawn with replacement: how often each was drawn, times its values.

    NaN where a resample holds no value.
    """
    rng = np.random.default_rng(seed)
    seeds, tasks, scores = values_STK.shape
    present_TX = ~np.isnan(values_STK).transpose(1, 0, 2).reshape(tasks, -1)
    filled_TX = np.where(present_TX, values_STK.transpose(1, 0, 2).reshape(tasks, -1), 0.0)
    parts = []
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        drawn_RS = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size).astype(np.float64)
        drawn_RT = rng.multinomial(tasks, np.full(tasks, 1 / tasks), size).astype(np.float64)
        total_RK, count_RK = (
            np.einsum("rsk,rs->rk", (drawn_RT @ each_TX).reshape(size, seeds, scores), drawn_RS)
            for each_TX in (filled_TX, present_TX.astype(np.float64))
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            parts.append(total_RK / count_RK)
    return np.concatenate(parts)
