"""Completions in progress, and the checks and row reports that all engines share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from earl.errors import ModelFormatError, SequenceError
from earl.records import Completion, FinishReason
from earl.sampling.protocol import OnRow, Request
from earl.sequence.grammar import Grammar, GrammarState
from earl.sequence.tokenizer import TextTokenizer


@dataclass(slots=True)
class Sample:
    """One completion in progress.

    Attributes:
        index: its number, counted through all requests in order.
        state: the grammar's, after `ids`.
        body: place in `ids` where the rows of image codes begin, -1 while it is not known.
        rows: rows reported so far.
        given: ids by cell that are not drawn, -1 for those that are; empty where all are drawn.
    """

    index: int
    seed: int
    state: GrammarState
    on_row: OnRow | None = None
    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    body: int = -1
    rows: int = 0
    given: tuple[int, ...] = ()

    def append(self, token: int, logprob: float) -> None:
        """Add a sampled id; where the grammar forced it, its log-probability counts as 0.

        Raises:
            SequenceError: the grammar does not allow the id here.
        """
        forced = self.state.allowed[0] == "forced"
        self.state.advance(token)
        self.ids.append(token)
        self.logprobs.append(0.0 if forced else logprob)
        if self.body < 0 and self.state.in_body:
            self.body = len(self.ids)

    def append_forced(self) -> None:
        """Add the ids that are certain from here on: those that the grammar forces, and given ones."""
        while True:
            kind, token = self.state.allowed
            if kind == "visual" and self.given:
                token = self._given_here()
            elif kind != "forced":
                return
            if token is None:
                return
            self.append(token, 0.0)

    def _given_here(self) -> int | None:
        """The given id of the next cell, None where it is to be drawn."""
        cell = self.next_cell(len(self.given))
        return None if cell is None or self.given[cell] < 0 else self.given[cell]

    def next_cell(self, cells: int) -> int | None:
        """Number of the image's next cell, row by row; None outside an image of so many cells."""
        grid = self.state.grid
        if self.body < 0 or grid is None or grid.height * grid.width != cells:
            return None
        at = len(self.ids) - self.body  # of the next id in the image; its rows are one id wider
        return at - at // (grid.width + 1)

    def report_rows(self) -> None:
        """Report the rows that are complete and were not reported before."""
        grid = self.state.grid
        if self.on_row is None or grid is None:
            return
        first = self.state.grammar.tokenizer.vocabulary.first_visual
        while self.rows < self.state.rows_done:
            at = self.body + self.rows * (grid.width + 1)
            codes = np.asarray(self.ids[at : at + grid.width], dtype=np.int32) - first
            self.on_row(self.index, self.rows, codes)
            self.rows += 1

    def completion(self) -> Completion:
        """The record: "stop" where the model ended it, well or badly; "length" where a bound did."""
        state, special = self.state, self.state.grammar.tokenizer.vocabulary.first_special
        cut = not state.done or (state.problem is not None and self.ids[-1] < special)
        reason: FinishReason = "length" if cut else "stop"
        return Completion(tuple(self.ids), tuple(self.logprobs), reason, self.seed)


def check_likelihoods(completion: Completion) -> None:
    """Raises ModelFormatError: a likelihood is no number, as of weights that are damaged or have diverged."""
    if any(map(math.isnan, completion.logprobs)):
        raise ModelFormatError(
            "the policy's likelihoods are not numbers: its weights are damaged, or too large for the "
            "type that it computes in; fetch it again, or try --dtype float32"
        )


def check_vocabulary(ids: int, tokenizer: TextTokenizer) -> None:
    """Raises ModelFormatError where a policy of so many ids lacks some of its tokenizer's."""
    if ids < tokenizer.vocabulary.size:
        raise ModelFormatError(
            f"the policy has {ids} ids, its text tokenizer {tokenizer.vocabulary.size}; "
            "they are not of one model"
        )


def checked_grammar(
    request: Request, tokenizer: TextTokenizer, max_positions: int, guided: bool = False
) -> Grammar:
    """The grammar of a request that a policy can complete.

    A completion whose text has no known length needs room for one id, and ends where the positions do.

    Raises:
        SequenceError: ids outside the vocabulary, or an image too long for the model's positions.
        ConfigError: guidance without a negative prompt.
    """
    grammar, prompts = request.grammar(tokenizer), request.prompts(guided)
    ids = tokenizer.vocabulary.size
    if min(map(min, prompts)) < 0 or max(map(max, prompts)) >= ids:
        raise SequenceError(f"a prompt has ids outside 0 to {ids - 1}")
    length = max(map(len, prompts)) + (grammar.max_length if request.prefill == "size" else 1)
    if length > max_positions:
        raise SequenceError(
            f"prompt and completion take {length} ids, the model has {max_positions} positions; "
            "use a smaller image"
        )
    return grammar


def by_request(requests: Sequence[Request], finished: Mapping[int, Completion]) -> list[list[Completion]]:
    """Per request, its completions in the order of its seeds."""
    numbers = iter(range(len(finished)))
    return [[finished[next(numbers)] for _ in request.seeds] for request in requests]
