"""One batch of the native engine, from prefill to its last completion.

Axes: M tokens fed, P prompts, C hidden channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch

from earl.config import SamplingSettings
from earl.sampling.native.decoder import Decoder
from earl.sampling.native.draw import draw, guide, stream_keys
from earl.sampling.native.samples import NativeSample
from earl.sampling.native.slots import Slots
from earl.sampling.protocol import OnCompletion, OnRow, Request
from earl.sequence.grammar import Grammar

_FIRST_CAPACITY = 256  # ids set aside per sample while its grid is not known
_LEAST_SHARE = 6  # of a step's ids, the part that each sample may guess however many there are
_PADDED_GUESSES = 32  # a drawn id, guesses and ends of rows of one sample, in a step of fixed shape


Place: TypeAlias = tuple[int, NativeSample, int]
"""(slot, its sample, fed ids behind the last real one): where an id is drawn."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Samples of one request that share one prefill (with guidance two).

    Attributes:
        first: number of its first sample, for `on_row` and `finish`.
    """

    request: Request
    grammar: Grammar
    prompts: tuple[tuple[int, ...], ...]
    first: int
    seeds: tuple[int, ...]
    sampling: SamplingSettings
    on_row: OnRow | None
    finish: OnCompletion


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How a batch feeds the model."""

    max_positions: int
    padded: bool
    step_tokens: int


class Batch:
    """Samples in progress together; `step` takes them all one step further."""

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

    def step(self) -> bool:
        """Draw the next ids of all samples and feed them. Returns whether any sample is left."""
        self._draw()
        alive = [sample is not None and not sample.ended for sample in self.samples]
        if not any(alive):
            return False
        self._drop_finished_prompts(alive)
        self._guess(sum(alive))
        self._feed()
        return True

    def _begin(self, unit: Unit, place: int) -> NativeSample:
        # Guesses would be fed in places that given ids take.
        given = tuple(self.first_visual + code if code >= 0 else -1 for code in unit.request.given or ())
        sample = NativeSample(
            unit.first + place,
            unit.seeds[place],
            unit.grammar.start(),
            unit.on_row,
            unit=unit,
            sampling=unit.sampling,
            finish=unit.finish,
            prompt_length=max(map(len, unit.prompts)),
            draft=() if given else tuple(self.first_visual + code for code in unit.request.draft or ()),
            given=given,
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
            most = self.options.step_tokens
            room = max(most // (alive * self.twins) - 1, most // _LEAST_SHARE)
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
            drawn = iter(self._draw_at(places, kind))
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

    def _draw_at(self, places: list[Place], kind: str) -> list[tuple[int, float]]:
        """Draw ids and their log-probabilities; what is drawn in the same way goes together."""
        ways = {id(sample.sampling): sample.sampling for _, sample, _ in places}
        if len(ways) == 1:
            return self._draw_alike(places, kind, places[0][1].sampling)
        drawn: dict[int, tuple[int, float]] = {}
        for sampling in ways.values():
            chosen = [at for at, (_, sample, _) in enumerate(places) if sample.sampling is sampling]
            alike = self._draw_alike([places[at] for at in chosen], kind, sampling)
            drawn.update(zip(chosen, alike, strict=True))
        return [drawn[at] for at in range(len(places))]

    def _draw_alike(
        self, places: list[Place], kind: str, sampling: SamplingSettings
    ) -> list[tuple[int, float]]:
        columns, first_id = self.columns[kind]
        guided = kind == "visual" and self.twins == 2
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
            with_R, without_R = logits.chunk(2)
            logits = guide(with_R, without_R, sampling.guidance)
        ids, logprobs = draw(logits, keys.to(logits.device), sampling, first_id)
        return list(zip(ids.tolist(), logprobs.tolist(), strict=True))

    def _write(self, sample: NativeSample, token: int, logprob: float) -> None:
        sample.append(token, logprob)
        sample.append_forced()
        sample.report_rows()
        too_long = sample.prompt_length + len(sample.ids) >= self.options.max_positions
        if sample.state.done or too_long:
            sample.ended = True
            sample.finish(sample.index, sample.completion())

    def _drop_finished_prompts(self, alive: list[bool]) -> None:
        """Drop finished prompts from the batch once they are a quarter of it."""
        count = len(self.samples) // self.group
        groups = [range(at * self.group, (at + 1) * self.group) for at in range(count)]
        left = [at for at, slots in enumerate(groups) if any(alive[slot] for slot in slots)]
        if len(left) > 0.75 * count:
            return
        self.samples = [self.samples[slot] for at in left for slot in groups[at]]
        self.opened = [self.opened[at] for at in left]
        self.slots.keep([at + twin * count for twin in range(self.twins) for at in left])

    def drop(self, unit: Unit) -> None:
        """End a unit's samples at once, without a result for its caller."""
        for sample in self.samples:
            if sample is not None and sample.unit is unit:
                sample.ended = True

    def ungroup(self) -> None:
        """Give each sample a prompt of its own, so that batches of any group sizes can be merged."""
        real = [slot for slot, sample in enumerate(self.samples) if sample is not None]
        slots = [slot + twin * len(self.samples) for twin in range(self.twins) for slot in real]
        self.opened = [self.opened[slot // self.group] for slot in real]
        self.rows = [self.rows[slot] for slot in slots]
        self.samples = [self.samples[slot] for slot in real]
        self.slots.ungroup(slots)
        self.group = 1

    def merge(self, other: Batch) -> None:
        """Take over the samples of another batch, with or without guidance as this one; both ungrouped."""
        ended = [slot for slot, sample in enumerate(self.samples) if sample is None or sample.ended]
        if len(ended) >= len(other.samples) and self.slots.holds(other.slots):
            self._reuse(ended[: len(other.samples)], other)
            return
        mine, theirs = len(self.samples), len(other.samples)
        offset = len(self.hidden_MC)
        rows = [self.rows, [row + offset for row in other.rows]]
        self.rows = [
            row
            for twin in range(self.twins)
            for part, count in zip(rows, (mine, theirs), strict=True)
            for row in part[twin * count : (twin + 1) * count]
        ]
        self.hidden_MC = torch.cat([self.hidden_MC, other.hidden_MC])
        order = [
            start + twin * count + slot
            for twin in range(self.twins)
            for start, count in ((0, mine), (mine * self.twins, theirs))
            for slot in range(count)
        ]
        self.slots.merge(other.slots, order)
        self.samples += other.samples
        self.opened += other.opened

    def _reuse(self, slots: list[int], other: Batch) -> None:
        """Put another batch's samples where samples have ended, which copies none of the rest."""
        mine, theirs, offset = len(self.samples), len(other.samples), len(self.hidden_MC)
        self.hidden_MC = torch.cat([self.hidden_MC, other.hidden_MC])
        for twin in range(self.twins):
            for place, slot in enumerate(slots):
                self.rows[slot + twin * mine] = other.rows[place + twin * theirs] + offset
        for slot, sample, opened in zip(slots, other.samples, other.opened, strict=True):
            self.samples[slot], self.opened[slot] = sample, opened
        self.slots.put([slot + twin * mine for twin in range(self.twins) for slot in slots], other.slots)
