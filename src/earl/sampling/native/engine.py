"""The native engine: many completions at once on the policy's own weights.

A prompt and the forced opening of its completions go through the model once for all its samples.
Then each step feeds every sample the id it drew last, together with the ids that the grammar forces
after it (the end of a row goes in with its neighbour), and draws the next one from the visual or the
text columns alone. Samples of one batch may have other prompts, grids and prefills. With guidance each
sample has a twin after the negative prompt: one more slot, fed the same ids, that is never drawn from.

Where a request brings a draft (an edit repeats most of its source), guesses are fed behind the id drawn
last and computed in the same step. Each is compared with what is drawn in its place, and the first that
differs ends the step. Every id is still drawn from its own distribution with its own noise, so a
completion is the same with and without; only the number of steps changes. This is speculative decoding
(Leviathan et al. 2022, arXiv 2211.17192) with shared noise in place of rejection, drafted by the prompt.

In float32 the same seed gives the same completion whatever else is in the batch. In bfloat16 sums
of another order may round differently, and a rare near-tie may fall the other way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from earl.config import SamplingSettings
from earl.errors import ConfigError, SequenceError
from earl.policy.devices import native_bf16
from earl.records import Completion
from earl.sampling.completions import by_request, check_likelihoods, check_vocabulary, checked_grammar
from earl.sampling.native.batch import Batch, BatchOptions, Unit
from earl.sampling.native.decoder import Decoder
from earl.sampling.native.session import NativeSession
from earl.sampling.native.weights import has_quantised, on_cpu
from earl.sampling.protocol import OnCompletion, OnRow, Request
from earl.sequence.tokenizer import TextTokenizer

# Ids, real and guessed, that cost a step little more than one. Measured on a CPU; an estimate for a GPU.
_STEP_TOKENS = {"cpu": 24, "cuda": 64, "quantised": 4}  # quantised: on a CPU


class NativeEngine:
    """Samples completions from a policy.

    Args:
        model: an Emu3ForCausalLM, with or without LoRA, or a `StoredPolicy`; its current weights
            are read at each call, or only at the first where it is `frozen`.
        tokenizer: its text tokenizer, whose vocabulary the grammar uses.
        max_batch: most samples in progress at once (memory); with guidance each counts twice.
        dtype: to compute in; None takes the model's own, or float32 on a CPU without bfloat16 arithmetic.
        padded: feed fixed shapes, on a GPU as recorded CUDA graphs; None does so on a GPU.
        frozen: nothing will change the policy's weights as long as this engine lives.
        step_tokens: ids of one step where requests bring drafts; where many samples share it, each still
            guesses a sixth of it (not if padded). None takes what suits the device, 0 guesses nothing.

    Attributes:
        steps: taken so far, by all calls.

    Raises:
        SequenceError: max_batch below 1, step_tokens below 0.
        ModelFormatError: policy and tokenizer are not of one model.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: TextTokenizer,
        *,
        max_batch: int = 128,
        dtype: torch.dtype | None = None,
        padded: bool | None = None,
        frozen: bool = False,
        step_tokens: int | None = None,
    ) -> None:
        if max_batch < 1:
            raise SequenceError(f"max_batch must be at least 1, got {max_batch}")
        if step_tokens is not None and step_tokens < 0:
            raise SequenceError(f"step_tokens must be at least 0, got {step_tokens}")
        policy = model.get_base_model() if hasattr(model, "peft_config") else model
        head = policy.lm_head.weight
        check_vocabulary(len(head), tokenizer)
        self.policy, self.tokenizer, self.max_batch, self.frozen = policy, tokenizer, max_batch, frozen
        self.max_positions = int(policy.config.max_position_embeddings)
        self.dtype = dtype or default_dtype(policy)
        self.padded = head.device.type == "cuda" if padded is None else padded
        if step_tokens is None:
            kind = "quantised" if on_cpu(policy) and has_quantised(policy) else head.device.type
            step_tokens = _STEP_TOKENS.get(kind, 0)
        self.step_tokens = step_tokens
        self.steps = 0
        self._decoder: Decoder | None = None

    @torch.inference_mode()
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
            ConfigError: guidance for a request without a negative prompt, or with a `max_batch` below 2.
        """
        sampling = sampling or SamplingSettings()
        finished: dict[int, Completion] = {}

        def finish(index: int, completion: Completion) -> None:
            check_likelihoods(completion)
            finished[index] = completion
            if on_completion is not None:
                on_completion(index, completion)

        units = self._units(requests, sampling, on_row, finish)
        decoder = self.current_decoder()
        for units_of_batch in self._batches(units):
            batch = Batch(decoder, units_of_batch, self.batch_options)
            while batch.step():
                self.steps += 1
        return by_request(requests, finished)

    def open_session(self) -> NativeSession:
        """Sampling that requests join and leave at any step; the weights are those of now."""
        return NativeSession(self)

    def current_decoder(self) -> Decoder:
        """The decoder, on the policy's current weights."""
        if self._decoder is None:
            self._decoder = Decoder(self.policy, self.dtype)
        elif not self.frozen:
            self._decoder.refresh()
        return self._decoder

    @property
    def batch_options(self) -> BatchOptions:
        """How its batches feed the model."""
        return BatchOptions(self.max_positions, self.padded, self.step_tokens)

    def _units(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings,
        on_row: OnRow | None,
        finish: OnCompletion,
    ) -> list[Unit]:
        guided = sampling.guided
        if guided and self.max_batch < 2:
            raise ConfigError("guidance takes two places of the batch a sample: max_batch must be at least 2")
        units, index, most = [], 0, self.max_batch // (2 if guided else 1)
        for request in requests:
            grammar = checked_grammar(request, self.tokenizer, self.max_positions, guided)
            for at in range(0, len(request.seeds), most):
                seeds = request.seeds[at : at + most]
                prompts = request.prompts(guided)
                units.append(Unit(request, grammar, prompts, index, seeds, sampling, on_row, finish))
                index += len(seeds)
        return units

    def _batches(self, units: list[Unit]) -> Iterator[list[Unit]]:
        """Units of like length and group size together, as many as `max_batch` slots hold, twins included."""
        units = sorted(units, key=lambda u: (u.grammar.max_length, len(u.seeds), len(u.request.prompt)))
        batch: list[Unit] = []
        for unit in units:
            group = max(len(other.seeds) for other in [*batch, unit])
            if batch and group * (len(batch) + 1) * len(unit.prompts) > self.max_batch:
                yield batch
                batch = []
            batch.append(unit)
        if batch:
            yield batch


def default_dtype(policy: Any) -> torch.dtype:
    """The model's own dtype; float32 for a half-precision model on a CPU that only emulates it."""
    own: torch.dtype = policy.lm_head.weight.dtype
    if not on_cpu(policy) or own == torch.float32 or has_quantised(policy):
        return own
    native = native_bf16(policy.lm_head.weight.device)
    return torch.bfloat16 if native and own == torch.bfloat16 else torch.float32
