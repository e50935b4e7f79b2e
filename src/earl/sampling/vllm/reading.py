"""What our engine's callers ask, as vLLM takes it; what vLLM wrote, as our engine would report it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from earl.errors import ConfigError, EngineError, SequenceError
from earl.records import Completion, FinishReason
from earl.sampling import Request, Sampling
from earl.sampling.vllm.arguments import GrammarArguments
from earl.sequence import Grammar, TextTokenizer

OnRow = Callable[[int, int, np.ndarray], None]
OnCompletion = Callable[[int, Completion], None]


@dataclass(slots=True)
class Sample:
    """One completion in progress: ids are taken as they come and checked against the grammar.

    `index` numbers the samples through all requests in order.
    """

    index: int
    seed: int
    request: Request
    grammar: Grammar
    on_row: OnRow | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    rows: int = 0
    body: int = -1

    def __post_init__(self) -> None:
        self._state = self.grammar.start()

    _state: Any = field(init=False, default=None)

    def take(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """More of the completion; what follows its end (an EOS that closed a failed one) is left out.

        Raises:
            EngineError: an id that the grammar does not allow.
        """
        state = self._state
        for token, logprob in zip(ids, logprobs, strict=True):
            if state.done:
                return
            forced = state.allowed[0] == "forced"
            try:
                state.advance(token)
            except SequenceError as error:
                raise EngineError(
                    f"vLLM did not keep to the image grammar ({error}); install earl into the environment "
                    "that vLLM runs in, so that it finds the plugin"
                ) from error
            self.ids.append(token)
            self.logprobs.append(0.0 if forced else float(logprob))
            if self.body < 0 and state.in_body:
                self.body = len(self.ids)
        self._report_rows()

    def _report_rows(self) -> None:
        state = self._state
        if self.on_row is None or state.grid is None:
            return
        width, first = state.grid.width, self.grammar.tokenizer.vocabulary.first_visual
        while self.rows < state.rows_done:
            at = self.body + self.rows * (width + 1)
            codes = np.asarray(self.ids[at : at + width], dtype=np.int32) - first
            self.on_row(self.index, self.rows, codes)
            self.rows += 1

    def completion(self) -> Completion:
        """ "stop" where the model ended it, well or badly; "length" where a bound did."""
        state, special = self._state, self.grammar.tokenizer.vocabulary.first_special
        cut = not state.done or (state.problem is not None and self.ids[-1] < special)
        reason: FinishReason = "length" if cut else "stop"
        return Completion(tuple(self.ids), tuple(self.logprobs), reason, self.seed)

    def parameters(self, sampling: Sampling, max_positions: int) -> dict[str, Any]:
        """vLLM's `SamplingParams` for this completion, as keyword arguments."""
        request = self.request
        arguments = GrammarArguments(request.prefill, request.grid, request.max_text_tokens)
        return {
            "n": 1,
            "seed": self.seed,
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "max_tokens": min(self.grammar.max_length, max_positions - len(request.prompt)),
            "stop_token_ids": [self.grammar.tokenizer.vocabulary.eos],
            "logprobs": 0,
            "detokenize": False,
            "extra_args": arguments.to_extra_args(),
        }


def make_samples(
    requests: Sequence[Request], tokenizer: TextTokenizer, max_positions: int, on_row: OnRow | None = None
) -> Iterator[Sample]:
    """A sample for each seed of each request, in order.

    Raises:
        SequenceError: ids outside the vocabulary, or an image too long for the model's positions.
    """
    index = 0
    for request in requests:
        grammar = Grammar(tokenizer, request.prefill, request.grid, request.max_text_tokens)
        if min(request.prompt) < 0 or max(request.prompt) >= tokenizer.vocabulary.size:
            raise SequenceError(f"a prompt has ids outside 0 to {tokenizer.vocabulary.size - 1}")
        length = len(request.prompt) + (grammar.max_length if request.prefill == "size" else 1)
        if length > max_positions:
            raise SequenceError(
                f"prompt and completion take {length} ids, the model has {max_positions} positions; "
                "use a smaller image"
            )
        for seed in request.seeds:
            yield Sample(index, seed, request, grammar, on_row)
            index += 1


def refuse_guidance(sampling: Sampling) -> None:
    """Raises ConfigError for guidance: a request of vLLM has one prompt, a guided sample needs two."""
    if sampling.guided:
        raise ConfigError(
            f"vLLM samples without guidance, got {sampling.guidance:g}; leave it out, or use our own engine"
        )


def grouped(requests: Sequence[Request], finished: dict[int, Completion]) -> list[list[Completion]]:
    """Per request, its completions in the order of its seeds."""
    numbers = iter(range(len(finished)))
    return [[finished[next(numbers)] for _ in request.seeds] for request in requests]
