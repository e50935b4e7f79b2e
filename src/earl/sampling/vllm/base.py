"""Base of the vLLM engines: requests in vLLM's form, and completions read as they arrive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from typing import Any

from earl.config import SamplingSettings
from earl.errors import ConfigError, EngineError, SequenceError
from earl.records import Completion
from earl.sampling.closed_session import ClosedSession, refuse_given
from earl.sampling.completions import Sample, by_request, check_likelihoods, check_vocabulary, checked_grammar
from earl.sampling.protocol import EngineSession, OnCompletion, OnRow, Request
from earl.sampling.vllm.arguments import GrammarArguments
from earl.sequence.tokenizer import TextTokenizer


@dataclass(slots=True)
class VllmSample(Sample):
    """One completion in progress: ids are taken as they come and checked against the grammar."""

    request: Request = field(kw_only=True)

    def take(self, ids: Sequence[int], logprobs: Sequence[float]) -> None:
        """More of the completion; what follows its end (an EOS that closed a failed one) is left out.

        Raises:
            EngineError: an id that the grammar does not allow.
        """
        for token, logprob in zip(ids, logprobs, strict=True):
            if self.state.done:
                break
            try:
                self.append(token, float(logprob))
            except SequenceError as error:
                raise EngineError(
                    f"vLLM did not keep to the image grammar ({error}); install earl into the environment "
                    "that vLLM runs in, so that it finds the plugin"
                ) from error
        self.report_rows()

    def parameters(self, sampling: SamplingSettings, max_positions: int) -> dict[str, Any]:
        """vLLM's `SamplingParams` for this completion, as keyword arguments."""
        request, grammar = self.request, self.state.grammar
        return {
            "n": 1,
            "seed": self.seed,
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "max_tokens": min(grammar.max_length, max_positions - len(request.prompt)),
            "stop_token_ids": [grammar.tokenizer.vocabulary.eos],
            "logprobs": 0,
            "detokenize": False,
            "extra_args": GrammarArguments.of(request).to_extra_args(),
        }


class VllmBase(ABC):
    """An `earl.sampling.Engine` that asks vLLM."""

    def __init__(self, config: Any, tokenizer: TextTokenizer, max_batch: int) -> None:
        if max_batch < 1:
            raise SequenceError(f"max_batch must be at least 1, got {max_batch}")
        check_vocabulary(config.vocab_size, tokenizer)
        self.tokenizer, self.max_batch = tokenizer, max_batch
        self.max_positions = int(config.max_position_embeddings)

    def open_session(self) -> EngineSession:
        """A session that completes all waiting requests together, in one step."""
        return ClosedSession(self, self.max_batch)

    @abstractmethod
    def refresh(self) -> None:
        """Give vLLM the policy's weights as they are now, and let it forget what it cached with others."""

    @abstractmethod
    def _run(
        self, samples: Sequence[VllmSample], sampling: SamplingSettings
    ) -> Generator[VllmSample, None, None]:
        """Complete the samples; each comes when it has ended. Closed early, it leaves nothing running."""

    def _awake(self) -> AbstractContextManager[None]:
        return nullcontext()

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings | None = None,
        on_row: OnRow | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[list[Completion]]:
        """Complete every request once per seed; see `earl.sampling.Engine.generate`.

        Raises:
            SequenceError: ids outside the vocabulary, or an image too long for the model's positions.
            ConfigError: guidance, which vLLM does not have: its requests have one prompt; given codes.
            EngineError: vLLM failed, left the grammar, or did not take the weights.
        """
        sampling = sampling or SamplingSettings()
        samples = self._samples(requests, sampling, on_row)
        with self._awake():
            self.refresh()
            return by_request(requests, self._finished(samples, sampling, on_completion))

    def _samples(
        self, requests: Sequence[Request], sampling: SamplingSettings, on_row: OnRow | None = None
    ) -> list[VllmSample]:
        if sampling.guided:
            raise ConfigError(
                f"vLLM samples without guidance, got {sampling.guidance:g}; leave it out, or use ours"
            )
        samples: list[VllmSample] = []
        for request in requests:
            refuse_given(request)
            grammar = checked_grammar(request, self.tokenizer, self.max_positions)
            for seed in request.seeds:
                samples.append(VllmSample(len(samples), seed, grammar.start(), on_row, request=request))
        return samples

    def _finished(
        self,
        samples: Sequence[VllmSample],
        sampling: SamplingSettings,
        on_completion: OnCompletion | None = None,
    ) -> dict[int, Completion]:
        finished: dict[int, Completion] = {}
        with closing(self._run(samples, sampling)) as ended:
            for sample in ended:
                finished[sample.index] = sample.completion()
                check_likelihoods(finished[sample.index])
                if on_completion is not None:
                    on_completion(sample.index, finished[sample.index])
        return finished


class ServedVllm(VllmBase):
    """vLLM in other processes, so that it samples while this one does something else."""

    def begin(
        self, requests: Sequence[Request], sampling: SamplingSettings
    ) -> Callable[[], list[list[Completion]]]:
        """`generate` with the weights as they are now, which may change as soon as this returns.

        Returns:
            A function that waits for the completions and gives them.

        Raises:
            As `generate`, here or by that function.
        """
        samples = self._samples(requests, sampling)
        self.refresh()
        pool = ThreadPoolExecutor(1, thread_name_prefix="sampling")
        try:
            return pool.submit(lambda: by_request(requests, self._finished(samples, sampling))).result
        finally:
            pool.shutdown(wait=False)
