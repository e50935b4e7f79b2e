"""Kinds are worked out from the grid at once; stepping through the grammar must say the same."""

import random

import numpy as np
import pytest

from earl.errors import SequenceError
from earl.records import Grid
from earl.sequence.grammar import Grammar
from earl.sequence.kinds import Kind, completion_kinds
from earl.sequence.layout import write_completion
from earl.sequence.reasoning import OPENING

from .conftest import CODEBOOK

GRIDS = [Grid(height, width) for height in range(1, 7) for width in range(1, 7)]
PREFILLS = ("size", "direct", "reasoning", "free")


def some_completion(grid, prefill, tokenizer):
    codes = np.random.default_rng([grid.height, grid.width]).integers(0, CODEBOOK, (grid.height, grid.width))
    return write_completion(codes, tokenizer, "it turns red" if prefill == "reasoning" else None)


def stepped(ids, grammar):
    """The plain twin: ask the automaton before each id."""
    names = {"text": Kind.TEXT, "visual": Kind.VISUAL, "forced": Kind.FORCED, "done": Kind.FORCED}
    state, kinds = grammar.start(), []
    for token_id in ids:
        kinds.append(names[state.allowed[0]])
        state.advance(token_id)
    return kinds


@pytest.mark.parametrize("prefill", PREFILLS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_equal_to_stepping_at_every_length(small, grid, prefill):
    ids = some_completion(grid, prefill, small)
    expected = stepped(ids, Grammar(small, prefill, grid if prefill == "size" else None))
    for length in range(len(ids) + 1):
        kinds = completion_kinds(ids[:length], small, prefill)
        assert kinds.dtype == np.int8 and kinds.tolist() == expected[:length]


def test_by_hand(small):
    ids = some_completion(Grid(1, 2), "direct", small)  # boi 1 * 2 img v v eol eof eoi eos
    assert completion_kinds(ids, small, "size").tolist() == [0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0]
    assert completion_kinds(ids, small, "direct").tolist() == [0, 1, 1, 1, 1, 2, 2, 0, 0, 0, 0]
    assert completion_kinds(ids, small, "free").tolist() == [1, 1, 1, 1, 1, 2, 2, 0, 0, 0, 0]
    assert completion_kinds(ids, small, "direct", score_forced=True).tolist() == [
        0,
        1,
        1,
        1,
        1,
        2,
        2,
        1,
        1,
        1,
        1,
    ]
    assert completion_kinds(ids, small, "size", score_forced=True).tolist() == [0] * 5 + [2, 2, 1, 1, 1, 1]
    assert completion_kinds([], small, "free").tolist() == []


def test_the_reasoning_opening_is_forced(small):
    ids = some_completion(Grid(1, 1), "reasoning", small)
    opening = len(small.encode(OPENING))
    for score_forced in (False, True):
        kinds = completion_kinds(ids, small, "reasoning", score_forced=score_forced)
        assert (kinds[:opening] == Kind.FORCED).all() and kinds[opening] == Kind.TEXT


def test_padding_behind_the_end_is_forced(small):
    pad = small.vocabulary.pad
    for prefill in PREFILLS:
        ids = some_completion(Grid(2, 2), prefill, small)
        for end in (len(ids), len(ids) - 3, len(ids) - 6):
            plain = completion_kinds(ids[:end], small, prefill, score_forced=True)
            padded = completion_kinds([*ids[:end], pad, pad], small, prefill, score_forced=True)
            assert padded.tolist() == [*plain.tolist(), 0, 0]


def test_a_completion_that_went_wrong_keeps_its_kinds(small):
    v = small.vocabulary
    ended = [*small.encode("the cube"), v.eos]
    assert completion_kinds([*ended, v.pad], small, "free").tolist() == [1] * len(ended) + [0]
    too_large = [v.boi, *small.encode("99999*99999"), v.img]
    assert completion_kinds(too_large, small, "direct").tolist() == [0] + [1] * 12


@pytest.mark.parametrize("prefill", PREFILLS)
def test_ids_that_the_grammar_does_not_allow_are_named(small, prefill):
    rng = random.Random(0)
    v = small.vocabulary
    ids = some_completion(Grid(2, 3), prefill, small)
    for position in range(ids.index(v.img) + 1, len(ids)):
        wrong = v.eol if v.is_visual(ids[position]) else v.first_visual + rng.randrange(CODEBOOK)
        with pytest.raises(SequenceError, match=f"position {position}: the grammar"):
            completion_kinds([*ids[:position], wrong, *ids[position + 1 :]], small, prefill)
    with pytest.raises(SequenceError, match=f"position {len(ids)}"):
        completion_kinds([*ids, 5], small, prefill)


def test_a_wrong_prefill_is_noticed(small):
    with pytest.raises(SequenceError, match="position 0"):
        completion_kinds(some_completion(Grid(2, 2), "direct", small), small, "reasoning")
    with pytest.raises(SequenceError, match="position 0"):
        completion_kinds(some_completion(Grid(2, 2), "reasoning", small), small, "size")
