"""Kinds of a completion's ids: text, visual token, or forced.

The likelihood of a completion is the one that sampling used: softmax over the text columns at
TEXT, over the visual columns at VISUAL, probability 1 at FORCED.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from earl.errors import SequenceError
from earl.records import Grid
from earl.sequence.grammar import Grammar, GrammarState, Prefill
from earl.sequence.layout import image_pattern, parse_size
from earl.sequence.tokenizer import TextTokenizer


class Kind(IntEnum):
    """Kind of an id: FORCED has probability 1, the others were chosen among columns."""

    FORCED = 0
    TEXT = 1
    VISUAL = 2


def completion_kinds(
    ids: Sequence[int],
    tokenizer: TextTokenizer,
    prefill: Prefill,
    *,
    grid: Grid | None = None,
    score_forced: bool = False,
) -> np.ndarray:
    """The kind of each id of a completion, whole or cut short.

    Args:
        ids: T ids without padding in front; padding behind the completion's end is FORCED.
        prefill: the prefill that the completion was written under.
        grid: the grid given to the grammar together with another prefill than `size`; for
            `size` it is read from the ids.
        score_forced: mirror the release: EOL, EOF, EOI and EOS are TEXT, as if chosen among
            the text columns. Ids of the prefill stay FORCED: there they belong to the prompt.

    Returns:
        int8 (T,) of `Kind` values.

    Raises:
        SequenceError: an id that the grammar does not allow at its place.
    """
    found = np.asarray(ids, dtype=np.int64)
    kinds = np.zeros(len(found), dtype=np.int8)
    if prefill == "size" and grid is None:
        grid = _written_grid(found, tokenizer)
        if grid is None:
            return kinds
    grammar = Grammar(tokenizer, prefill, grid, max_text_tokens=len(found) + 1)
    state = grammar.start()
    while state.position < len(found) and not state.done and not state.in_body:
        kinds[state.position] = Kind.TEXT if state.allowed[0] == "text" else Kind.FORCED
        state.advance(int(found[state.position]))
    if state.in_body:
        _mark_body(found, kinds, state, tokenizer, score_forced)
    elif state.done:
        _expect_padding(found, state.position, tokenizer)
    return kinds


def _written_grid(found: np.ndarray, tokenizer: TextTokenizer) -> Grid | None:
    """The grid between BOI and IMG; None where the forced head itself is cut short."""
    vocabulary = tokenizer.vocabulary
    if len(found) and found[0] != vocabulary.boi:
        name = vocabulary.describe(int(found[0]))
        raise SequenceError(f"position 0: expected boi ({vocabulary.boi}), got {name}")
    marks = np.flatnonzero(found == vocabulary.img)
    if len(marks) == 0:
        return None
    try:
        return parse_size(tokenizer.decode(found[1 : marks[0]].tolist()))
    except SequenceError as error:
        raise SequenceError(f"position 1: {error}") from error


def _mark_body(
    found: np.ndarray, kinds: np.ndarray, state: GrammarState, tokenizer: TextTokenizer, score_forced: bool
) -> None:
    """Fill in the kinds after IMG, comparing with the grid's pattern instead of stepping."""
    assert state.grid is not None
    vocabulary, first = tokenizer.vocabulary, state.position
    wanted = np.append(image_pattern(state.grid, tokenizer), vocabulary.eos)
    got = found[first : first + len(wanted)]
    wanted = wanted[: len(got)]
    visual = (got >= vocabulary.first_visual) & (got < vocabulary.first_visual + vocabulary.codebook_size)
    right = np.where(wanted < 0, visual, got == wanted)
    length = len(got) if right.all() else int(np.flatnonzero(~right)[0])
    forced_kind = Kind.TEXT if score_forced else Kind.FORCED
    kinds[first : first + length] = np.where(wanted[:length] < 0, Kind.VISUAL, forced_kind)
    _expect_padding(found, first + length, tokenizer)


def _expect_padding(found: np.ndarray, start: int, tokenizer: TextTokenizer) -> None:
    wrong = np.flatnonzero(found[start:] != tokenizer.vocabulary.pad)
    if len(wrong):
        position = start + int(wrong[0])
        name = tokenizer.vocabulary.describe(int(found[position]))
        raise SequenceError(f"position {position}: the grammar of the completion does not allow {name}")
