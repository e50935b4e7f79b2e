"""vLLM servers for a run of several ranks: the first asks for all of them.

Every call is made on all ranks together. The first one gathers their requests, gives the servers the weights,
and hands each rank its completions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

from accelerate import Accelerator

from earl.config import SamplingSettings
from earl.errors import EarlError
from earl.records import Completion
from earl.sampling import Request
from earl.sampling.protocol import OnCompletion, OnRow
from earl.sampling.vllm.base import ServedVllm
from earl.training.ranks import gather_objects

T = TypeVar("T")
Completions = list[list[Completion]]


class SharedEngine:
    """Samples as an `earl.sampling.Engine`, its calls made on all ranks together, also without requests.

    Args:
        engine: the servers; asked on the first rank alone.
    """

    def __init__(self, engine: ServedVllm, accelerator: Accelerator) -> None:
        self.engine, self._accelerator = engine, accelerator
        self.tokenizer, self.max_positions = engine.tokenizer, engine.max_positions

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings | None = None,
        on_row: OnRow | None = None,
        on_completion: OnCompletion | None = None,
    ) -> Completions:
        """As `Engine.generate`; completions are reported when all ranks have theirs, rows are not."""
        parts = gather_objects(self._accelerator, list(requests))
        asked = list(chain.from_iterable(parts))
        mine = self._mine(parts, self._first(lambda: self.engine.generate(asked, sampling)))
        if on_completion is not None:
            for sample, completion in enumerate(chain.from_iterable(mine)):
                on_completion(sample, completion)
        return mine

    def begin(self, requests: Sequence[Request], sampling: SamplingSettings) -> Callable[[], Completions]:
        """As `ServedVllm.begin`; what it returns is called on all ranks together."""
        parts = gather_objects(self._accelerator, list(requests))
        asked: list[Request] = list(chain.from_iterable(parts))
        begun: list[Callable[[], Completions]] = []
        self._first(lambda: begun.append(self.engine.begin(asked, sampling)))
        return lambda: self._mine(parts, self._first(lambda: begun[0]()))

    def _first(self, do: Callable[[], T]) -> T:
        """The first rank's result, or its error, on all ranks."""
        answer: tuple[T | None, EarlError | None] = None, None
        if self._accelerator.is_main_process:
            try:
                answer = do(), None
            except EarlError as error:
                answer = None, error
        made, failed = gather_objects(self._accelerator, answer)[0]
        if failed is not None:
            raise failed
        return made

    def _mine(self, parts: Sequence[Sequence[Request]], made: Completions) -> Completions:
        rank = self._accelerator.process_index
        before = sum(map(len, parts[:rank]))
        return made[before : before + len(parts[rank])]
