"""One batch of the native engine, from prefill to its last completion.

Axes: M tokens fed, P prompts, C hidden channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from earl.config import SamplingSettings
from earl.sampling.native.decoder import Decoder
from earl.sampling.native.draw import draw, guide, stream_keys
from earl.sampling.native.samples import NativeSample
from earl.sampling.native.slots import Slots
from earl.sampling.protocol import OnCompletion, OnRow, Request
from earl.sequence import Grammar

_FIRST_CAPACITY = 256  # ids set aside per sample while its grid is not known
_PADDED_GUESSES = 32  # a drawn id, guesses and ends of rows of one sample, in a step of fixed shape


@dataclass(frozen=True, slots=True)
class Unit:
    """Samples of one request that share one prefill (with guidance two); `first` is their first number."""

    request: Request
    grammar: Grammar
    prompts: tuple[tuple[int, ...], ...]
    first: int
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a batch draws and feeds, and whom it tells."""

    sampling: SamplingSettings
    max_positions: int
    padded: bool
    step_tokens: int
    on_row: OnRow | None
    finish: OnCompletion


class Batch:
    """Samples in progress together. `run` completes them all."""

    def __init__(self, decoder: Decoder, units: Sequence[Unit], options: BatchOptions) -> None:
        self.decoder, self.options = decoder, options
        vocabulary = units[0].grammar.tokenizer.vocabulary
        self.eol, self.first_visual = vocabulary.eol, vocabulary.first_visual
        stop = self.first_visual + vocabulary.codebook_size
        head = decoder.weights.head
        self.columns = {
            "text": (head[: self.first_visual], 0),
            "visual": (head[self.first_visual : stop], self.first_visual),
        }
        self.group = max(len(unit.seeds) for unit in units)
        self.samples: list[NativeSample | None] = []
        openings = []  # forced ids that go in with the prompt, by unit
        for unit in units:
            members = [self._begin(unit, place) for place in range(len(unit.seeds))]
            openings.append(tuple(members[0].ids))
            self.samples += [*members, *[None] * (self.group - len(members))]
        self.opened = list(map(len, openings))
        # With guidance the second half of the slots are the twins of the first, in the same order.
        self.twins = len(units[0].prompts)
        prompts = [
            unit.prompts[twin] + opening
            for twin in range(self.twins)
            for unit, opening in zip(units, openings, strict=True)
        ]
        cache, hidden_PC = decoder.prefill(prompts)
        longest = max(unit.grammar.max_length for unit in units)
        known = all(unit.request.prefill == "size" for unit in units)
        drafted = options.step_tokens and any(unit.request.draft for unit in units)
        self.slots = Slots(
            decoder,
            cache,
            self.group,
            longest if known else min(longest, _FIRST_CAPACITY),
            padded=options.padded,
            record=options.padded and decoder.device.type == "cuda",
            **({"longest_padded": _PADDED_GUESSES} if options.padded and drafted else {}),
        )
        self.hidden_MC = hidden_PC.repeat_interleave(self.group, dim=0)
        self.rows = list(range(len(self.hidden_MC)))  # by slot, that of the hidden state to draw from

    def run(self) -> int:
        """Complete all samples. Returns the number of steps."""
        for step in itertools.count():
            self._draw()
            alive = [sample is not None and not sample.ended for sample in self.samples]
            if not any(alive):
                return step
            self._drop_finished_prompts(alive)
            self._guess(sum(alive))
            self._feed()
        raise AssertionError("a batch ends with its last sample")

    def _begin(self, unit: Unit, place: int) -> NativeSample:
        sample = NativeSample(
            unit.first + place,
            unit.seeds[place],
            unit.grammar.start(),
            self.options.on_row,
            prompt_length=max(map(len, unit.prompts)),
            draft=tuple(self.first_visual + code for code in unit.request.draft or ()),
        )
        sample.append_forced()
        sample.fed = len(sample.ids)
        return sample

    def _feed(self) -> None:
        """Feed every sample its unfed ids and its guesses, with guidance also to its twin."""
        tokens = [[] if s is None or s.ended else [*s.unfed, *s.guesses] for s in self.samples]
        starts = [
            0 if s is None else s.fed - self.opened[slot // self.group] for slot, s in enumerate(self.samples)
        ]
        needed = max(start + len(ids) for start, ids in zip(starts, tokens, strict=True) if ids)
        if needed > self.slots.room:
            self.slots.grow(max(needed, 2 * self.slots.room))
        self.hidden_MC, self.rows = self.slots.feed(tokens * self.twins, starts * self.twins)
        for slot, sample in enumerate(self.samples * self.twins):
            if sample is not None and not sample.ended:
                self.rows[slot] += len(sample.unfed) - 1

    def _guess(self, alive: int) -> None:
        """Guess the next cells of samples with a draft, as far as the step has room for it."""
        if self.options.padded:  # all slots are fed alike
            room = self.options.step_tokens // (len(self.samples) * self.twins) - 1
            room = min(room, self.slots.longest_padded - 2)  # beside the id drawn last and its row's end
        else:
            room = self.options.step_tokens // (alive * self.twins) - 1
        for sample in self.samples:
            if sample is not None and sample.draft and not sample.ended:
                sample.guess(room, self.eol)

    def _draw(self) -> None:
        """Draw the next id of every sample in progress, and write the forced ones after it."""
        waiting = [(slot, s) for slot, s in enumerate(self.samples) if s is not None and not s.ended]
        # Sorted by kind before any is drawn: an id drawn as text may make a visual one due next.
        due = {
            kind: [(slot, sample) for slot, sample in waiting if sample.state.allowed[0] == kind]
            for kind in self.columns
        }
        for kind, rows in due.items():
            if not rows:
                continue
            places = [(slot, sample, place) for slot, sample in rows for place in sample.places]
            guided = kind == "visual" and self.twins == 2
            drawn = zip(*self._draw_at(places, *self.columns[kind], guided), strict=True)
            for _, sample in rows:
                self._take(sample, list(itertools.islice(drawn, len(sample.places))))

    def _take(self, sample: NativeSample, drawn: list[tuple[int, float]]) -> None:
        """Write what was drawn at a sample's places, up to the first id that was guessed otherwise."""
        guessed = sample.guessed
        right = 0
        for at, (token, logprob) in enumerate(drawn):
            sample.fed = len(sample.ids)
            self._write(sample, token, logprob)
            if sample.ended or at == len(guessed) or token != guessed[at]:
                break
            right += 1
        sample.settle(right, self.options.step_tokens)

    def _draw_at(
        self, places: list[tuple[int, NativeSample, int]], columns: Tensor, first_id: int, guided: bool
    ) -> tuple[list[int], list[float]]:
        """Draw ids and their log-probabilities at (slot, its sample, place)."""
        hidden = self.hidden_MC
        rows = [self.rows[slot] + place for slot, _, place in places]
        if guided:
            rows += [self.rows[slot + len(self.samples)] + place for slot, _, place in places]
        if rows != list(range(len(hidden))):
            hidden = hidden[torch.tensor(rows, device=hidden.device)]
        positions = [len(sample.ids) + place for _, sample, place in places]
        keys = stream_keys([sample.seed for _, sample, _ in places], positions)
        logits = (hidden.to(columns.device, columns.dtype) @ columns.T).float()
        if guided:
            asked, negative = logits.chunk(2)
            logits = guide(asked, negative, self.options.sampling.guidance)
        ids, logprobs = draw(logits, keys.to(logits.device), self.options.sampling, first_id)
        return ids.tolist(), logprobs.tolist()

    def _write(self, sample: NativeSample, token: int, logprob: float) -> None:
        sample.append(token, logprob)
        sample.append_forced()
        sample.report_rows()
        too_long = sample.prompt_length + len(sample.ids) >= self.options.max_positions
        if sample.state.done or too_long:
            sample.ended = True
            self.options.finish(sample.index, sample.completion())

    def _drop_finished_prompts(self, alive: list[bool]) -> None:
        """Where a quarter of the prompts are through, carry on with the rest alone."""
        count = len(self.samples) // self.group
        groups = [range(at * self.group, (at + 1) * self.group) for at in range(count)]
        left = [at for at, slots in enumerate(groups) if any(alive[slot] for slot in slots)]
        if len(left) > 0.75 * count:
            return
        self.samples = [self.samples[slot] for at in left for slot in groups[at]]
        self.opened = [self.opened[at] for at in left]
        self.slots.keep([at + twin * count for twin in range(self.twins) for at in left])
