"""Rank correlation of two lists of numbers, with bootstrap intervals. Ties share their mean rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from earl.errors import MissingExtraError
from earl.records import Estimate

Array = NDArray[np.float64]
LEAST = 3  # items that a correlation needs
Kind = Literal["spearman", "kendall"]
RESAMPLES = 1_000


def correlate(
    kind: Kind, first: Sequence[float], second: Sequence[float], *, resamples: int = RESAMPLES
) -> Estimate | None:
    """Spearman's rho or Kendall's tau-b of N pairs, in [-1, 1], with a 95% interval over the pairs.

    None where it is not defined: fewer than 3 pairs, or one side is constant.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy import stats
    except ImportError as error:
        raise MissingExtraError(
            "correlations need scipy, which is not installed; pip install 'earl-edit[metrics]'"
        ) from error
    statistic = stats.spearmanr if kind == "spearman" else stats.kendalltau
    pairs_N2 = np.column_stack([first, second]).astype(np.float64)
    count = len(pairs_N2)
    if count < LEAST or _constant(pairs_N2):
        return None
    draws_RN = np.random.default_rng(0).integers(0, count, (resamples, count))
    drawn = [_value(statistic, pairs_N2[draw]) for draw in draws_RN if not _constant(pairs_N2[draw])]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(_value(statistic, pairs_N2), float(low), float(high), count)


def _constant(pairs_N2: Array) -> bool:
    """Whether one side does not vary."""
    return bool((pairs_N2 == pairs_N2[0]).all(0).any())


def _value(statistic: Callable[..., object], pairs_N2: Array) -> float:
    return float(statistic(pairs_N2[:, 0], pairs_N2[:, 1]).statistic)  # type: ignore[attr-defined]
