"""Continuous batching: requests that join and leave the native engine's batch at any step."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from earl.config import SamplingSettings
from earl.errors import ConfigError
from earl.records import Completion
from earl.sampling.completions import checked_grammar
from earl.sampling.native.batch import Batch, Unit
from earl.sampling.protocol import OnCompletion, OnRow, Request

if TYPE_CHECKING:
    from earl.sampling.native.engine import NativeEngine


@dataclass(slots=True)
class _Entry:
    """A request in progress; `batch` is None until its first step."""

    unit: Unit
    batch: Batch | None = None

    @property
    def slots(self) -> int:
        return len(self.unit.seeds) * len(self.unit.prompts)


class NativeSession:
    """Requests in progress together. Not for several threads at once.

    In float32 a request's completions are those that it has alone, whoever else is there. Each sample has a
    copy of its prompt's keys and values, so that samples of any request can stand beside each other.
    """

    def __init__(self, engine: NativeEngine) -> None:
        self._engine = engine
        self._decoder = engine.current_decoder()
        self._batches: dict[int, Batch] = {}  # without and with guidance
        self._entries: dict[int, _Entry] = {}
        self._numbers = itertools.count()
        self._settings: dict[SamplingSettings, SamplingSettings] = {}

    @property
    def room(self) -> int:
        """Samples that may still join; one with guidance counts twice."""
        return self._engine.max_batch - sum(entry.slots for entry in self._entries.values())

    def insert(
        self,
        request: Request,
        sampling: SamplingSettings,
        on_row: OnRow | None = None,
        on_completion: OnCompletion | None = None,
    ) -> int:
        """Let a request join at the next step.

        Args:
            request: prompt, seeds, grid; its samples are numbered from 0.
            sampling: how this request is drawn; others may be drawn otherwise.
            on_row, on_completion: called from `step`.

        Returns:
            A ticket, for `remove`.

        Raises:
            SequenceError, ConfigError: as `NativeEngine.generate`; also more samples than there is room for.
        """
        engine = self._engine
        grammar = checked_grammar(request, engine.tokenizer, engine.max_positions, sampling.guided)
        ticket = next(self._numbers)
        remaining = set(range(len(request.seeds)))

        def finish(index: int, completion: Completion) -> None:
            remaining.discard(index)
            if not remaining:
                self._entries.pop(ticket, None)
            if on_completion is not None:
                on_completion(index, completion)

        # Equal settings are one object, so that what is drawn alike is found without comparing fields.
        sampling = self._settings.setdefault(sampling, sampling)
        prompts = request.prompts(sampling.guided)
        entry = _Entry(Unit(request, grammar, prompts, 0, request.seeds, sampling, on_row, finish))
        if entry.slots > self.room:
            raise ConfigError(f"{entry.slots} samples do not fit: there is room for {self.room}")
        self._entries[ticket] = entry
        return ticket

    def remove(self, ticket: int) -> None:
        """Drop a request; it takes no part in the next step. Nothing for one that is through."""
        entry = self._entries.pop(ticket, None)
        if entry is not None and entry.batch is not None:
            entry.batch.drop(entry.unit)

    @torch.inference_mode()
    def step(self) -> bool:
        """Prefill what joined, then take one step for all. Returns whether any request is left."""
        joining: dict[int, list[_Entry]] = {}
        for entry in self._entries.values():
            if entry.batch is None:
                joining.setdefault(len(entry.unit.prompts), []).append(entry)
        for twins, entries in joining.items():
            self._join(twins, entries)
        for twins, batch in list(self._batches.items()):
            if batch.step():
                self._engine.steps += 1
            else:
                del self._batches[twins]
        if not self._entries:
            self._settings.clear()
        return bool(self._entries)

    def _join(self, twins: int, entries: list[_Entry]) -> None:
        new = Batch(self._decoder, [entry.unit for entry in entries], self._engine.batch_options)
        new.ungroup()
        batch = self._batches.get(twins)
        if batch is None:
            batch = self._batches[twins] = new
        else:
            batch.merge(new)
        for entry in entries:
            entry.batch = batch
