"""How often each source of a mixture is gone through, from the sizes of the sources.

A weight is the expected number of passes over a source per epoch, as `Mixture` and a recipe's
`data.sources.*.weight` take it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from earl.errors import DataError

RELEASED: dict[str, float] = {
    "omniedit": 0.13,
    "magicbrush": 6.0,
    "aurora-ag": 6.0,
    "aurora-kubric": 0.7,
    "something-something-v2": 1.55,
    "vismin": 3.7,
    "humanedit": 11.0,
}
"""The release's weights for simple and complex edits together (EARL, arXiv 2508.01119)."""


def upsample_to_largest(sizes: Mapping[str, int], *, cap: int | None = None) -> dict[str, float]:
    """Weights by which every source gives as many examples as the largest, or `cap` if that is fewer.

    The paper brings its small complex sets to 50,000 each this way. A source above `cap` is
    subsampled.

    Raises:
        DataError: no source, or one without examples.
    """
    _check(sizes)
    goal = max(sizes.values()) if cap is None else min(cap, max(sizes.values()))
    return {name: goal / size for name, size in sizes.items()}


def temperature_weights(sizes: Mapping[str, int], temperature: float) -> dict[str, float]:
    """Weights by which a source is drawn in proportion to size^(1/temperature).

    1 draws in proportion to the sizes (every weight 1), a high temperature draws all sources
    alike. An epoch has as many examples as all sources together.

    Raises:
        DataError: no source, one without examples, or a temperature that is not above 0.
    """
    _check(sizes)
    if not 0 < temperature < float("inf"):
        raise DataError(f"the temperature of a mixture is above 0, got {temperature}")
    largest = max(sizes.values())  # shares of it: powers stay in range
    shares = {name: (size / largest) ** (1 / temperature) for name, size in sizes.items()}
    total, whole = sum(shares.values()), sum(sizes.values())
    return {name: whole * share / total / sizes[name] for name, share in shares.items()}


def allocate(count: int, sizes: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """How many different examples each source gives to `count` of them, in proportion to the shares.

    A source that has fewer gives all it has, and the others the rest; fewer than `count` in all only where
    the sources with a share have no more.
    """
    open_, left = [name for name in sizes if shares[name] > 0], count
    given = dict.fromkeys(sizes, 0)
    while open_:
        whole = sum(shares[name] for name in open_)
        full = [name for name in open_ if left * shares[name] >= sizes[name] * whole]
        if not full:
            break
        given |= {name: sizes[name] for name in full}
        open_ = [name for name in open_ if name not in full]
        left -= sum(sizes[name] for name in full)
    if open_:
        exact = {name: left * shares[name] / whole for name in open_}
        given |= {name: int(exact[name]) for name in open_}
        rest = left - sum(given[name] for name in open_)
        for name in sorted(open_, key=lambda name: given[name] - exact[name])[:rest]:
            given[name] += 1
    return given


def pick(
    count: int, sizes: Mapping[str, int], shares: Mapping[str, float], *, seed: int
) -> dict[str, list[int]]:
    """Which rows of each source `allocate` gives: drawn by the seed, in their order in the source."""
    given = allocate(count, sizes, shares)
    return {
        name: sorted(np.random.default_rng([seed, place]).permutation(sizes[name])[: given[name]].tolist())
        for place, name in enumerate(sizes)
    }


def _check(sizes: Mapping[str, int]) -> None:
    empty = [name for name, size in sizes.items() if size < 1]
    if empty or not sizes:
        raise DataError(f"sources without examples have no weight: {', '.join(empty) or 'there are none'}")
