"""Session over an engine without continuous batching: what waits is completed together, in one step."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from earl.config import SamplingSettings
from earl.errors import ConfigError
from earl.sampling.protocol import Engine, OnCompletion, OnRow, Request


def refuse_given(request: Request) -> None:
    """Raises ConfigError for given codes, which an engine outside ours would draw all the same."""
    if request.given is not None:
        raise ConfigError(
            "given codes (a mask) need engine = 'earl'; leave the mask out, or change the engine"
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    request: Request
    sampling: SamplingSettings
    on_row: OnRow | None
    on_completion: OnCompletion | None


class ClosedSession:
    """See `EngineSession`. A request that has begun is not dropped before it is through."""

    def __init__(self, engine: Engine, max_batch: int) -> None:
        self._engine, self._max_batch = engine, max_batch
        self._entries: dict[int, _Entry] = {}
        self._numbers = itertools.count()

    @property
    def room(self) -> int:
        """Samples that may still join."""
        return self._max_batch - sum(len(entry.request.seeds) for entry in self._entries.values())

    def insert(
        self,
        request: Request,
        sampling: SamplingSettings,
        on_row: OnRow | None = None,
        on_completion: OnCompletion | None = None,
    ) -> int:
        """Let a request join at the next step.

        Raises:
            ConfigError: there is no room, or the request has given codes.
        """
        refuse_given(request)
        if len(request.seeds) > self.room:
            raise ConfigError(f"{len(request.seeds)} samples do not fit: there is room for {self.room}")
        ticket = next(self._numbers)
        self._entries[ticket] = _Entry(request, sampling, on_row, on_completion)
        return ticket

    def remove(self, ticket: int) -> None:
        """Drop a request that waits."""
        self._entries.pop(ticket, None)

    def step(self) -> bool:
        """Complete all that wait and are drawn as the first of them. Returns whether any request is left."""
        if not self._entries:
            return False
        sampling = next(iter(self._entries.values())).sampling
        alike = {t: entry for t, entry in self._entries.items() if entry.sampling == sampling}
        owners = [(entry, index) for entry in alike.values() for index in range(len(entry.request.seeds))]

        def on_row(sample: int, row: int, codes: NDArray[np.int32]) -> None:
            entry, index = owners[sample]
            if entry.on_row is not None:
                entry.on_row(index, row, codes)

        completed = self._engine.generate([entry.request for entry in alike.values()], sampling, on_row)
        for (ticket, entry), completions in zip(alike.items(), completed, strict=True):
            del self._entries[ticket]
            for index, completion in enumerate(completions):
                if entry.on_completion is not None:
                    entry.on_completion(index, completion)
        return bool(self._entries)
