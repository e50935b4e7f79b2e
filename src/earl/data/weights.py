"""Rows of several sources in proportion to their shares: how many of each, and which."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def allocate(count: int, sizes: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """Split `count` examples over the sources in proportion to their shares.

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
    """Draw as many rows of each source as `allocate` says, by the seed, in the source's order."""
    given = allocate(count, sizes, shares)
    return {
        name: sorted(np.random.default_rng([seed, place]).permutation(sizes[name])[: given[name]].tolist())
        for place, name in enumerate(sizes)
    }
