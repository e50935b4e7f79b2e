"""Our engine: many completions at once, under the grammar, on the weights of the policy itself.

A prompt and the forced opening of its completions go through the model once for all its samples.
Then each step feeds every sample the id it drew last together with the ids that the grammar forces
after it (the end of a row rides along with its neighbour), and draws the next one from the visual
or the text columns alone. Samples of one batch may have other prompts, grids and prefills. With guidance
each sample has a twin after another prompt: one more slot, fed the same ids, that is never drawn from.

Where a request brings a draft (an edit repeats most of its source), guesses ride along with the id drawn
last: they are computed in the same step, each is compared with what is drawn in its place, and the first
that differs ends the step. Every id is still drawn from its own distribution with its own noise, so a
completion is the same with and without; only the number of steps changes. This is speculative decoding
(Leviathan et al. 2022, arXiv 2211.17192) with shared noise in place of rejection, drafted by the prompt.

In float32 the same seed gives the same completion whatever else is in the batch; in bfloat16 sums
of another order may round differently, and a rare near-tie may fall the other way.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from earl.errors import ConfigError, SequenceError
from earl.policy.devices import devices_of, native_bf16, refuse_split
from earl.records import Completion, FinishReason
from earl.sampling.native.decoder import Decoder
from earl.sampling.native.draw import draw, guided, stream_keys
from earl.sampling.native.samples import Sample
from earl.sampling.native.slots import Slots
from earl.sampling.native.weights import on_cpu
from earl.sampling.requests import Request, Sampling
from earl.sequence import Grammar, TextTokenizer

OnRow = Callable[[int, int, np.ndarray], None]
OnCompletion = Callable[[int, Completion], None]
_FIRST_CAPACITY = 256  # ids set aside per sample while its grid is not known
_PADDED_GUESSES = 32  # a drawn id, guesses and ends of rows of one sample, in a step of fixed shape
# Ids, real and guessed, that cost a step little more than one; measured on a CPU, a guess for a GPU.
_STEP_TOKENS = {"cpu": 24, "cuda": 64}


@dataclass(slots=True)
class _Unit:
    """Samples of one request that share one prefill (with guidance two)."""

    request: Request
    grammar: Grammar
    prompts: tuple[tuple[int, ...], ...]  # its prompt; with guidance also the one to lead away from
    members: list[tuple[int, int]] = field(default_factory=list)  # (sample index, seed)


class Engine:
    """Samples completions from a policy.

    Args:
        model: an Emu3ForCausalLM, with or without LoRA; its current weights are read at each call, or
            at the first alone where it is `frozen`.
        tokenizer: its text tokenizer, whose vocabulary the grammar uses.
        max_batch: most samples in progress at once (memory); with guidance each counts twice.
        dtype: to compute in; None takes the model's own, or float32 on a CPU without bfloat16 arithmetic.
        padded: feed fixed shapes, on a GPU as recorded CUDA graphs; None does so on one GPU only.
        frozen: nothing will change the policy's weights as long as this engine lives.
        step_tokens: ids that one step takes through the model at most where requests bring drafts; more
            samples than that are fed one id each, as without. None takes what suits the device, 0 guesses
            nothing.

    Raises:
        SequenceError: max_batch below 1, step_tokens below 0; policy and tokenizer are not of one model.
        ConfigError: padded for a policy over several devices, which a CUDA graph cannot hold.
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
        rows = policy.lm_head.weight.shape[0]
        self.vocabulary = tokenizer.vocabulary
        if rows < self.vocabulary.size:
            raise SequenceError(
                f"the policy has {rows} ids, its tokenizer {self.vocabulary.size}; they are not of one model"
            )
        self.policy, self.tokenizer, self.max_batch, self.frozen = policy, tokenizer, max_batch, frozen
        self.max_positions = int(policy.config.max_position_embeddings)
        self.dtype = dtype or default_dtype(policy)
        if padded:
            refuse_split(policy, "padded (CUDA graphs)")
        whole = len(devices_of(policy)) == 1
        self.padded = whole and policy.lm_head.weight.device.type == "cuda" if padded is None else padded
        place = policy.lm_head.weight.device.type
        self.step_tokens = _STEP_TOKENS.get(place, 0) if step_tokens is None else step_tokens
        self.steps = 0  # taken so far, by all calls
        self._decoder: Decoder | None = None

    @torch.inference_mode()
    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling | None = None,
        on_row: OnRow | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[list[Completion]]:
        """Complete every request once per seed.

        Args:
            requests: prompts, seeds, grids, prefills; they may differ.
            sampling: how to draw; None is the paper's setting.
            on_row: called with (sample, row, codes int32 (W,)) when a row of an image is complete;
                samples are numbered through all requests in order. Rows of a sample come in order.
            on_completion: called with (sample, completion) when one ends.

        Returns:
            per request, its completions in the order of its seeds. A completion ends with "length"
            where text ran past its bound or the model's positions before the image was whole.

        Raises:
            SequenceError: ids outside the vocabulary, or an image too long for the model's positions.
            ConfigError: guidance for a request without `away`, or with a `max_batch` below 2.
        """
        sampling = sampling or Sampling()
        units = self._units(requests, sampling.guided)
        if self._decoder is None:
            self._decoder = Decoder(self.policy, self.dtype)
        elif not self.frozen:
            self._decoder.refresh()
        finished: dict[int, Completion] = {}

        def finish(index: int, completion: Completion) -> None:
            finished[index] = completion
            if on_completion is not None:
                on_completion(index, completion)

        for batch in self._batches(units):
            _Run(self, self._decoder, batch, sampling, on_row, finish).run()
        numbers = iter(range(len(finished)))
        return [[finished[next(numbers)] for _ in request.seeds] for request in requests]

    def _units(self, requests: Sequence[Request], guided: bool) -> list[_Unit]:
        if guided and self.max_batch < 2:
            raise ConfigError("guidance takes two places of the batch a sample: max_batch must be at least 2")
        units, index, most = [], 0, self.max_batch // (2 if guided else 1)
        for number, request in enumerate(requests):
            if guided and request.away is None:
                raise ConfigError(
                    f"guidance needs a prompt to lead away from; request {number} has no `away`"
                )
            prompts = (request.prompt, request.away) if guided and request.away else (request.prompt,)
            grammar = Grammar(self.tokenizer, request.prefill, request.grid, request.max_text_tokens)
            for prompt in prompts:
                self._check(prompt, request, grammar)
            for at in range(0, len(request.seeds), most):
                unit = _Unit(request, grammar, prompts)
                for seed in request.seeds[at : at + most]:
                    unit.members.append((index, seed))
                    index += 1
                units.append(unit)
        return units

    def _check(self, prompt: tuple[int, ...], request: Request, grammar: Grammar) -> None:
        if min(prompt) < 0 or max(prompt) >= self.vocabulary.size:
            raise SequenceError(f"a prompt has ids outside 0 to {self.vocabulary.size - 1}")
        length = len(prompt) + (grammar.max_length if request.prefill == "size" else 0)
        if length > self.max_positions:
            raise SequenceError(
                f"prompt and completion take {length} ids, the model has {self.max_positions} positions; "
                "use a smaller image"
            )

    def _batches(self, units: list[_Unit]) -> Iterator[list[_Unit]]:
        """Units of like length and group size together, as many as `max_batch` slots hold, twins included."""
        units = sorted(units, key=lambda u: (u.grammar.max_length, len(u.members), len(u.request.prompt)))
        batch: list[_Unit] = []
        for unit in units:
            group = max(len(member.members) for member in [*batch, unit])
            if batch and group * (len(batch) + 1) * len(unit.prompts) > self.max_batch:
                yield batch
                batch = []
            batch.append(unit)
        if batch:
            yield batch


def default_dtype(policy: Any) -> torch.dtype:
    """The model's own dtype; float32 for a half-precision model on a CPU that only emulates it."""
    weight = policy.lm_head.weight
    if not on_cpu(policy) or weight.dtype == torch.float32:
        return weight.dtype
    native = native_bf16(weight.device)
    return torch.bfloat16 if native and weight.dtype == torch.bfloat16 else torch.float32


class _Run:
    """One batch from prefill to its last completion."""

    def __init__(
        self,
        engine: Engine,
        decoder: Decoder,
        units: list[_Unit],
        sampling: Sampling,
        on_row: OnRow | None,
        finish: OnCompletion,
    ) -> None:
        self.engine, self.decoder, self.sampling = engine, decoder, sampling
        self.on_row, self.finish = on_row, finish
        self.first_visual = engine.vocabulary.first_visual
        stop = self.first_visual + engine.vocabulary.codebook_size
        head = decoder.weights.head
        self.columns = {
            "text": (head[: self.first_visual], 0),
            "visual": (head[self.first_visual : stop], self.first_visual),
        }
        self.group = max(len(unit.members) for unit in units)
        self.samples: list[Sample | None] = []
        self.opening: list[int] = []  # forced ids that went in with the prompt, by unit
        prompts: list[tuple[int, ...]] = []
        away: list[tuple[int, ...]] = []
        for unit in units:
            opening = unit.grammar.start().forced_ahead()
            self.opening.append(len(opening))
            for kind, prompt in zip((prompts, away), unit.prompts, strict=False):
                kind.append((*prompt, *opening))
            length = max(map(len, unit.prompts))
            for member in range(self.group):
                if member >= len(unit.members):
                    self.samples.append(None)
                    continue
                index, seed = unit.members[member]
                state = unit.grammar.start()
                for token in opening:
                    state.advance(token)
                begun = len(opening)
                body = begun if state.in_body else -1
                draft = tuple(self.first_visual + code for code in unit.request.draft or ())
                self.samples.append(
                    Sample(index, seed, length, state, list(opening), [0.0] * begun, begun, body, draft)
                )
        # With guidance the second half of the slots are the twins of the first, in the same order.
        self.ways = len(units[0].prompts)
        cache, hidden_PC = decoder.prefill(prompts + away)
        longest = max(unit.grammar.max_length for unit in units)
        known = all(unit.request.prefill == "size" for unit in units)
        drafted = engine.step_tokens and any(unit.request.draft for unit in units)
        self.slots = Slots(
            decoder,
            cache,
            self.group,
            longest if known else min(longest, _FIRST_CAPACITY),
            padded=engine.padded,
            record=engine.padded and decoder.device.type == "cuda",
            **({"longest_padded": _PADDED_GUESSES} if engine.padded and drafted else {}),
        )
        self.hidden_MC = hidden_PC.repeat_interleave(self.group, dim=0)
        self.rows = list(range(len(self.hidden_MC)))  # by slot, that of the hidden state to draw from

    def run(self) -> None:
        while True:
            self._draw()
            alive = [sample is not None and not sample.ended for sample in self.samples]
            if not any(alive):
                return
            self._drop_finished_prompts(alive)
            self._guess(sum(alive))
            tokens = [[] if s is None or s.ended else [*s.unfed, *s.guesses] for s in self.samples]
            starts = [
                0 if s is None else s.fed - self.opening[slot // self.group]
                for slot, s in enumerate(self.samples)
            ]
            needed = max(start + len(ids) for start, ids in zip(starts, tokens, strict=True) if ids)
            if needed > self.slots.room:
                self.slots.grow(max(needed, 2 * self.slots.room))
            self.hidden_MC, self.rows = self.slots.feed(tokens * self.ways, starts * self.ways)
            self.engine.steps += 1
            for slot, sample in enumerate(self.samples * self.ways):
                if sample is not None and not sample.ended:
                    self.rows[slot] += len(sample.unfed) - 1

    def _guess(self, alive: int) -> None:
        """Guess the next cells of samples with a draft, as far as the step has room for it."""
        if self.engine.padded:  # all slots are fed alike
            room = self.engine.step_tokens // (len(self.samples) * self.ways) - 1
            room = min(room, self.slots.longest_padded - 2)  # beside the id drawn last and its row's end
        else:
            room = self.engine.step_tokens // (alive * self.ways) - 1
        for sample in self.samples:
            if sample is not None and sample.draft and not sample.ended:
                sample.guess(room, self.engine.vocabulary.eol)

    def _draw(self) -> None:
        """Draw the next id of every sample in progress, and write the forced ones after it."""
        waiting = [
            (slot, sample)
            for slot, sample in enumerate(self.samples)
            if sample is not None and not sample.ended
        ]
        # Sorted by kind before any is drawn: an id drawn as text may make a visual one due next.
        due = {
            kind: [(slot, sample) for slot, sample in waiting if sample.state.allowed[0] == kind]
            for kind in self.columns
        }
        for kind, rows in due.items():
            if not rows:
                continue
            places = [(slot, sample, place) for slot, sample in rows for place in sample.places]
            guide = kind == "visual" and self.ways == 2
            drawn = zip(*self._draw_at(places, *self.columns[kind], guide), strict=True)
            for _, sample in rows:
                self._take(sample, list(itertools.islice(drawn, len(sample.places))))

    def _take(self, sample: Sample, drawn: list[tuple[int, float]]) -> None:
        """Write what was drawn at a sample's places, up to the first id that was guessed otherwise."""
        guessed = sample.guessed
        right = 0
        for at, (token, logprob) in enumerate(drawn):
            sample.fed = len(sample.ids)
            self._write(sample, token, logprob)
            if sample.ended or at == len(guessed) or token != guessed[at]:
                break
            right += 1
        sample.settle(right, self.engine.step_tokens)

    def _draw_at(
        self, places: list[tuple[int, Sample, int]], columns: Tensor, first_id: int, guide: bool
    ) -> tuple[list, list]:
        """Draw ids and their log-probabilities at (slot, its sample, place)."""
        hidden = self.hidden_MC
        rows = [self.rows[slot] + place for slot, _, place in places]
        if guide:
            rows += [self.rows[slot + len(self.samples)] + place for slot, _, place in places]
        if rows != list(range(len(hidden))):
            hidden = hidden[torch.tensor(rows, device=hidden.device)]
        positions = [len(sample.ids) + place for _, sample, place in places]
        keys = stream_keys([sample.seed for _, sample, _ in places], positions)
        logits = (hidden.to(columns.device, columns.dtype) @ columns.T).float()
        if guide:
            asked, away = logits.chunk(2)
            logits = guided(asked, away, self.sampling.guidance)
        ids, logprobs = draw(logits, keys.to(logits.device), self.sampling, first_id)
        return ids.tolist(), logprobs.tolist()

    def _write(self, sample: Sample, token: int, logprob: float) -> None:
        state = sample.state
        sample.ids.append(token)
        sample.logprobs.append(logprob)
        state.advance(token)
        while state.allowed[0] == "forced":
            forced = state.allowed[1]
            assert forced is not None
            sample.ids.append(forced)
            sample.logprobs.append(0.0)
            state.advance(forced)
        self._report_rows(sample)
        too_long = sample.prompt_length + len(sample.ids) >= self.engine.max_positions and not state.done
        if state.done or too_long:
            sample.ended = True
            self.finish(sample.index, _completion(sample, too_long, self.engine.vocabulary.first_special))

    def _report_rows(self, sample: Sample) -> None:
        state = sample.state
        if sample.body < 0 and state.in_body:
            sample.body = len(sample.ids)
        if self.on_row is None or state.grid is None or sample.rows == state.rows_done:
            return
        width = state.grid.width
        while sample.rows < state.rows_done:
            at = sample.body + sample.rows * (width + 1)
            codes = np.asarray(sample.ids[at : at + width], dtype=np.int32) - self.first_visual
            self.on_row(sample.index, sample.rows, codes)
            sample.rows += 1

    def _drop_finished_prompts(self, alive: list[bool]) -> None:
        """Where a quarter of the prompts are through, carry on with the rest alone."""
        count = len(self.samples) // self.group
        groups = [range(at * self.group, (at + 1) * self.group) for at in range(count)]
        left = [at for at, slots in enumerate(groups) if any(alive[slot] for slot in slots)]
        if len(left) > 0.75 * count:
            return
        self.samples = [self.samples[slot] for at in left for slot in groups[at]]
        self.opening = [self.opening[at] for at in left]
        self.slots.keep([at + way * count for way in range(self.ways) for at in left])


def _completion(sample: Sample, too_long: bool, first_special: int) -> Completion:
    """ "stop" where the model ended it, well or badly; "length" where a bound did."""
    cut = too_long or (sample.state.problem is not None and sample.ids[-1] < first_special)
    reason: FinishReason = "length" if cut else "stop"
    return Completion(tuple(sample.ids), tuple(sample.logprobs), reason, sample.seed)
