"""Draws from several sources by weight, resumable at every draw.

Each source is gone through in a shuffled order of its own, again and again, so that no example
comes a second time before all have come once. Which source is next is random, by weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earl.errors import DataError


class Mixture:
    """An endless stream of (source name, index).

    Args:
        sizes: examples of each source.
        weights: expected passes over each source per epoch; an epoch is the weighted sum of the
            sizes. 0 leaves a source out.
        seed: decides everything.

    Raises:
        DataError: no source with examples and a weight, or names that do not agree.
    """

    def __init__(self, sizes: Mapping[str, int], weights: Mapping[str, float], *, seed: int) -> None:
        if sizes.keys() != weights.keys():
            raise DataError(f"sources {sorted(sizes)} and weights {sorted(weights)} do not agree")
        self.names = [name for name in sizes if weights[name] > 0 and sizes[name] > 0]
        if not self.names:
            raise DataError(f"nothing to draw from: sizes {dict(sizes)}, weights {dict(weights)}")
        self.sizes = {name: sizes[name] for name in self.names}
        self.seed = seed
        shares = np.array([sizes[name] * weights[name] for name in self.names], np.float64)
        self.epoch_size = float(shares.sum())
        self._shares = shares / shares.sum()
        self._drawn = dict.fromkeys(self.names, 0)
        self._choices = np.random.default_rng([seed, 0])
        self._orders: dict[str, tuple[int, NDArray[np.int64]]] = {}

    def __iter__(self) -> Mixture:
        return self

    def __next__(self) -> tuple[str, int]:
        name = self.names[int(self._choices.choice(len(self.names), p=self._shares))]
        turn, place = divmod(self._drawn[name], self.sizes[name])
        self._drawn[name] += 1
        return name, int(self._order(name, turn)[place])

    @property
    def drawn(self) -> dict[str, int]:
        """Examples drawn from each source so far."""
        return dict(self._drawn)

    def state_dict(self) -> dict[str, Any]:
        """JSON-able position."""
        return {"sizes": self.sizes, "drawn": dict(self._drawn), "choices": self._choices.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a position.

        Raises:
            DataError: the position is in other data: a source is new, gone, or of another size.
        """
        if state["sizes"] != self.sizes:
            raise DataError(
                f"the checkpoint's data position is in {state['sizes']}, the recipe's data are {self.sizes} "
                "(examples by source); give the data it was saved with, or start a new run"
            )
        self._drawn = dict(state["drawn"])
        self._choices.bit_generator.state = state["choices"]

    def _order(self, name: str, turn: int) -> NDArray[np.int64]:
        known = self._orders.get(name)
        if known is None or known[0] != turn:
            number = int.from_bytes(name.encode(), "big") % 2**61
            order = np.random.default_rng([self.seed, 1, number, turn]).permutation(self.sizes[name])
            self._orders[name] = known = (turn, order)
        return known[1]
