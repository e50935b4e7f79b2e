"""Batches without end, bucketed by length, the same on any number of ranks, resumable.

A pool of several updates is drawn from the mixture, sorted by length and cut into updates of
`sequences`, whose order is shuffled. Every rank draws the same pool and keeps its own
micro-batches, so that the union over ranks does not depend on how many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from earl.config.sections import BatchSizes
from earl.data.collate import Batch, Bundle, collate
from earl.data.mixture import Mixture
from earl.errors import ConfigError, DataError

_MOST_SKIPPED = 10_000


class TokenStream:
    """Gives this rank's micro-batches of one update at each `next`.

    Args:
        mixture: what to draw.
        encode: (source name, index) -> a bundle of sequences that share their beginning.
        batch: its sizes; an update has `global_size / share` bundles.
        pad: id of padding.
        pool: updates drawn ahead.
        max_tokens: longer sequences are left out.
        seed: of the order of updates inside a pool.
        rank: (this rank, ranks).

    Attributes:
        skipped: sequences that were left out so far.

    Raises:
        ConfigError: `global_size` does not divide into `micro_size` on every rank.
        DataError: (from `next`) everything drawn is longer than `max_tokens`.
    """

    def __init__(
        self,
        mixture: Mixture,
        encode: Callable[[str, int], Bundle],
        batch: BatchSizes,
        *,
        pad: int,
        pool: int = 16,
        max_tokens: int = 4096,
        seed: int = 0,
        rank: tuple[int, int] = (0, 1),
    ) -> None:
        self.rank, self.ranks = rank
        batch.check_ranks(self.ranks)
        size, micro, share = batch.global_size, batch.micro_size, batch.share
        self.mixture, self.encode = mixture, encode
        self.pad, self.max_tokens, self.seed = pad, max_tokens, seed
        self.sequences, self.micro, self.pool = size // share, micro // share, pool
        self._settings = [size, micro, share, pool]
        self.skipped = self._skipped = 0
        self._pools = 0
        self._place = pool
        self._start: dict[str, Any] = mixture.state_dict()
        self._updates: list[list[Bundle]] = []

    def __iter__(self) -> TokenStream:
        return self

    def __next__(self) -> list[Batch]:
        if self._place >= self.pool:
            self._fill()
            self._pools, self._place = self._pools + 1, 0
        update = self._updates[self._place]
        self._place += 1
        parts = [update[start : start + self.micro] for start in range(0, self.sequences, self.micro)]
        return [collate(part, self.pad) for part in parts[self.rank :: self.ranks]]

    def state_dict(self) -> dict[str, Any]:
        """JSON-able: where the current pool began in the mixture, and the place in it."""
        place = {"pools": self._pools, "place": self._place, "batch": self._settings}
        return {"mixture": self._start, "skipped": self._skipped, **place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a position; see `Mixture.load_state_dict` for what is refused."""
        if state["batch"] != self._settings:
            raise ConfigError(
                f"the checkpoint has batch.global_size, micro_size, share, pool = {state['batch']}, the "
                f"recipe {self._settings}; keep them, or start a new run from its model"
            )
        self.mixture.load_state_dict(state["mixture"])
        self._pools, self._place = state["pools"], state["place"]
        self.skipped = state.get("skipped", 0)
        if self._pools:  # draw the current pool again: the mixture then stands where it stood
            self._pools -= 1
            self._fill()
            self._pools += 1

    def _fill(self) -> None:
        self._start, self._skipped = self.mixture.state_dict(), self.skipped
        wanted, skipped = self.sequences * self.pool, 0
        drawn: list[Bundle] = []
        while len(drawn) < wanted:
            bundle = self.encode(*next(self.mixture))
            if max(map(len, bundle)) <= self.max_tokens:
                drawn.append(bundle)
                continue
            skipped += 1
            if skipped > max(_MOST_SKIPPED, 10 * wanted):
                raise DataError(
                    f"{skipped} sequences in a row are longer than {self.max_tokens} tokens, which is "
                    f"data.max_tokens or what the policy takes (the last has {max(map(len, bundle))}); raise "
                    "data.max_tokens or prepare smaller images"
                )
        self.skipped += skipped
        # The sort is stable: equal lengths keep the order they were drawn in.
        drawn.sort(key=lambda bundle: max(map(len, bundle)))
        updates = [drawn[start : start + self.sequences] for start in range(0, wanted, self.sequences)]
        order = np.random.default_rng([self.seed, 2, self._pools]).permutation(self.pool)
        self._updates = [updates[index] for index in order]
