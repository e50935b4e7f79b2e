"""Sampling of the next step beside judging and update of this one (`rollouts.staleness` = 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from earl.records import Completion
from earl.sampling.vllm.base import ServedVllm
from earl.training.grpo.prompts import Prompt
from earl.training.grpo.rollouts import Sampler
from earl.training.grpo.shared_engine import SharedEngine


class Ahead:
    """Samples a step's completions from the weights before the update of the step before it.

    A server samples while this process decodes, waits for verdicts and updates. An engine in this process
    samples when it is asked to, while the verifier is at work: the completions are the same.

    Args:
        sampler: of the run.

    Attributes:
        prompts: what was begun last; none after a start.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.prompts: list[Prompt] = []
        self._result: Callable[[], list[list[Completion]]] | None = None

    @property
    def overlaps(self) -> bool:
        """The engine samples elsewhere."""
        return isinstance(self._sampler.engine, ServedVllm | SharedEngine)

    @property
    def begun(self) -> bool:
        return self._result is not None

    def begin(self, prompts: Sequence[Prompt]) -> None:
        """Sample completions of these prompts from the weights as they are now. Raises EngineError."""
        sampler, self.prompts = self._sampler, list(prompts)
        requests, engine = sampler.requests(prompts), sampler.engine
        if isinstance(engine, ServedVllm | SharedEngine):
            self._result = engine.begin(requests, sampler.sampling())
        else:
            made = engine.generate(requests, sampler.sampling()) if requests else []
            self._result = lambda: made

    def wait(self) -> list[list[Completion]]:
        """The completions that were begun. Raises EngineError."""
        assert self._result is not None, "begin comes first"
        result, self._result = self._result, None
        return result()
