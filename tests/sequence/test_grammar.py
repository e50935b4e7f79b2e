"""The automaton: equal to the release where that is right, and an end to every completion."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from earl.errors import SequenceError
from earl.records import Grid
from earl.sequence.grammar import Grammar
from earl.sequence.kinds import Kind, completion_kinds
from earl.sequence.layout import MAX_CELLS, parse_completion, size_ids, write_completion
from earl.sequence.reasoning import OPENING
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.vocabulary import Vocabulary

from .conftest import CODEBOOK

VECTORS = json.loads(
    (
        next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "vectors/grammar.json"
    ).read_text()
)
GRIDS = [Grid(height, width) for height in range(1, 7) for width in range(1, 7)]
PREFILLS = ("size", "direct", "reasoning", "free")


def some_codes(grid, seed=0):
    return np.random.default_rng([seed, grid.height, grid.width]).integers(
        0, CODEBOOK, (grid.height, grid.width)
    )


def written(grid, prefill, tokenizer):
    return write_completion(
        some_codes(grid), tokenizer, "the cube, then red" if prefill == "reasoning" else None
    )


def for_prefill(tokenizer, prefill, grid, **bounds):
    return Grammar(tokenizer, prefill, grid if prefill == "size" else None, **bounds)


def vector_tokenizer(case):
    """The vectors' ids stand for no real text, so the three between BOI and IMG are named here."""
    vocabulary = Vocabulary.from_dict(VECTORS["vocabulary"])
    begin, end = case["completion"].index(vocabulary.boi), case["completion"].index(vocabulary.img)
    height, star, width = case["completion"][begin + 1 : end]
    words = {str(case["height"]): height, "*": star, str(case["width"]): width}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="*"))
    tokenizer.decoder = decoders.Fuse()
    return TextTokenizer(tokenizer, vocabulary)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: f"{case['height']}*{case['width']}")
def test_equal_to_the_release(case):
    tokenizer = vector_tokenizer(case)
    state = Grammar(tokenizer, "free").start()
    for token_id, expected in zip(case["completion"], case["allowed"], strict=True):
        assert state.allowed == (("forced", expected) if isinstance(expected, int) else (expected, None))
        state.advance(token_id)
    assert state.allowed == ("done", None) and state.problem is None
    assert state.grid == Grid(case["height"], case["width"])
    names = {"text": Kind.TEXT, "visual": Kind.VISUAL}
    kinds = completion_kinds(case["completion"], tokenizer, "free")
    assert kinds.tolist() == [names.get(entry, Kind.FORCED) for entry in case["allowed"]]
    kinds = completion_kinds(case["completion"], tokenizer, "free", score_forced=True)
    assert kinds.tolist() == [names.get(entry, Kind.TEXT) for entry in case["allowed"]]


@pytest.mark.parametrize("prefill", PREFILLS)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_what_is_written_is_what_is_allowed(small, grid, prefill):
    ids = written(grid, prefill, small)
    grammar = for_prefill(small, prefill, grid)
    state = grammar.start()
    for position, token_id in enumerate(ids):
        assert not state.done and state.position == position
        state.advance(token_id)
    assert state.done and state.allowed == ("done", None)
    assert state.problem is None and state.grid == grid
    assert len(ids) <= grammar.max_length


def walk(grammar, rng, text_ids):
    """Write a completion by the rule alone, text taken from `text_ids`."""
    state, ids = grammar.start(), []
    vocabulary = grammar.tokenizer.vocabulary
    while not state.done:
        kind, forced = state.allowed
        if kind == "forced":
            token_id = forced
        elif kind == "visual":
            token_id = rng.randrange(
                vocabulary.first_visual, vocabulary.first_visual + vocabulary.codebook_size
            )
        else:
            token_id = rng.choice(text_ids)
        ids.append(token_id)
        state.advance(token_id)
        assert len(ids) <= grammar.max_length
    return state, ids


@pytest.mark.parametrize("prefill", PREFILLS)
def test_every_random_path_ends_and_reads_as_the_grammar_says(small, prefill):
    """A model that writes anything at all; digits and structure ids are likely, so images come about."""
    rng = random.Random(prefill)
    v = small.vocabulary
    likely = [*small.encode("1234*"), *small.encode("*"), v.boi, v.img]
    whole = 0
    for number in range(400):
        grid = rng.choice(GRIDS)
        grammar = for_prefill(small, prefill, grid, max_text_tokens=30)
        pool = likely if number % 2 else [*likely, *range(v.first_visual)]
        state, ids = walk(grammar, rng, pool)
        parsed = parse_completion(ids, small)
        assert (parsed.codes is None) == (state.problem is not None)
        kinds = completion_kinds(ids, small, prefill)
        assert len(kinds) == len(ids)
        if state.problem is None:
            whole += 1
            assert parsed.problem is None
            assert parsed.codes.shape == (state.grid.height, state.grid.width)
    assert whole == 400 if prefill == "size" else whole > 0


def test_size_forces_everything_but_the_visual_tokens(small):
    grid, v = Grid(2, 1), small.vocabulary
    state = Grammar(small, "size", grid).start()
    assert state.forced_ahead() == size_ids(grid, small) == [v.boi, *small.encode("2*1"), v.img]
    for token_id in state.forced_ahead():
        state.advance(token_id)
    assert state.allowed == ("visual", None) and state.forced_ahead() == []
    assert state.advance(v.first_visual).forced_ahead() == [v.eol]
    state.advance(v.eol).advance(v.first_visual + 1)
    assert state.forced_ahead() == [v.eol, v.eof, v.eoi, v.eos]
    assert state.position == 8 and not state.done  # looking ahead moved nothing
    assert Grammar(small, "size", grid).max_length == 12


def test_direct_forces_only_the_beginning(small):
    state = Grammar(small, "direct").start()
    assert state.forced_ahead() == [small.vocabulary.boi]
    assert state.advance(small.vocabulary.boi).allowed == ("text", None)


def test_reasoning_forces_its_opening(small):
    state = Grammar(small, "reasoning").start()
    assert state.forced_ahead() == small.encode(OPENING)
    for token_id in small.encode(OPENING):
        state.advance(token_id)
    assert state.allowed == ("text", None)


@pytest.mark.parametrize("prefill", ["direct", "reasoning", "free"])
def test_a_grid_forces_the_size_whatever_the_prefill(small, prefill):
    grid, v = Grid(3, 2), small.vocabulary
    ids = written(grid, prefill, small)
    state = Grammar(small, prefill, grid).start()
    after_boi = ids.index(v.boi) + 1
    for token_id in ids[:after_boi]:
        state.advance(token_id)
    assert state.forced_ahead() == [*small.encode("3*2"), v.img]
    with pytest.raises(SequenceError, match=f"position {after_boi}: expected text id"):
        state.copy().advance(small.encode("4")[0])
    for token_id in ids[after_boi:]:
        state.advance(token_id)
    assert state.done and state.problem is None
    head = slice(after_boi, ids.index(v.img) + 1)
    assert (completion_kinds(ids, small, prefill, grid=grid)[head] == Kind.FORCED).all()
    assert (completion_kinds(ids, small, prefill)[head] == Kind.TEXT).all()


@pytest.mark.parametrize(
    "text",
    ["", "3", "0*3", "3*0", "03*3", "3x3", " 3*3", "3*3 ", "*", "99999*99999", "1*16385", "٣*3", "1*1*1"],
)
def test_a_bad_size_ends_the_completion(small, text):
    state = Grammar(small, "direct").start().advance(small.vocabulary.boi)
    for token_id in small.encode(text):
        state.advance(token_id)
    state.advance(small.vocabulary.img)
    assert state.done and state.grid is None and "position" in state.problem


def test_the_bound_on_cells_is_settable(small):
    def ask(text, max_cells):
        state = Grammar(small, "direct", max_cells=max_cells).start().advance(small.vocabulary.boi)
        for token_id in [*small.encode(text), small.vocabulary.img]:
            state.advance(token_id)
        return state

    assert ask("8*8", 64).allowed == ("visual", None)
    assert "more than 63 cells" in ask("8*8", 63).problem


def test_a_size_that_does_not_end(small):
    state = Grammar(small, "direct").start().advance(small.vocabulary.boi)
    while not state.done:
        state.advance(small.encode("1")[0])
    assert state.position == 17 and "image size" in state.problem


def test_text_that_does_not_end(small):
    state = Grammar(small, "free", max_text_tokens=5).start()
    for _ in range(4):
        state.advance(1)
    image_in_time = state.copy().advance(small.vocabulary.boi)
    assert not image_in_time.done
    assert state.advance(1).done and "5 ids of text and no image" in state.problem


@pytest.mark.parametrize("role", ["pad", "bos", "eos", "img", "eoi", "eol", "eof"])
def test_structure_out_of_place_ends_the_completion(small, role):
    token_id = getattr(small.vocabulary, role)
    in_text = Grammar(small, "free").start().advance(1).advance(token_id)
    assert in_text.done and f"position 1: {role}" in in_text.problem
    if role != "img":
        in_size = Grammar(small, "direct").start().advance(small.vocabulary.boi).advance(token_id)
        assert in_size.done and f"position 1: {role}" in in_size.problem


def test_a_second_image_start_inside_the_size(small):
    state = Grammar(small, "direct").start().advance(small.vocabulary.boi).advance(small.vocabulary.boi)
    assert state.done and "boi" in state.problem


def test_ids_that_are_not_allowed(small):
    v = small.vocabulary
    state = Grammar(small, "size", Grid(1, 1)).start()
    for token_id in [*size_ids(Grid(1, 1), small), v.first_visual, v.eol, v.eof, v.eoi, v.eos]:
        wrong = v.first_visual if state.allowed[0] == "forced" else v.eol
        with pytest.raises(SequenceError, match=f"position {state.position}: expected"):
            state.advance(wrong)
        state.advance(token_id)
    with pytest.raises(SequenceError, match="expected done"):
        state.advance(v.pad)
    with pytest.raises(SequenceError, match="expected text"):
        Grammar(small, "free").start().advance(v.first_visual)


def test_copies_are_independent(small):
    state = Grammar(small, "free").start().advance(1)
    other = state.copy().advance(small.vocabulary.eos)
    assert other.done and not state.done and state.problem is None and state.position == 1


def test_rows_are_counted(small):
    grid = Grid(3, 2)
    state, seen = Grammar(small, "size", grid).start(), []
    for token_id in write_completion(some_codes(grid), small):
        state.advance(token_id)
        seen.append(state.rows_done)
    assert seen[:5] == [0] * 5
    assert seen[5:] == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prefill": "size"}, "needs a grid"),
        ({"prefill": "thinking"}, "prefill must be one of size, direct, reasoning, free"),
        ({"prefill": "free", "max_text_tokens": 0}, "max_text_tokens must be at least 1"),
        ({"prefill": "free", "max_cells": MAX_CELLS + 1}, "max_cells must lie in"),
        ({"prefill": "size", "grid": Grid(129, 128)}, "more than 16384 cells"),
    ],
)
def test_a_grammar_that_cannot_be(small, arguments, message):
    with pytest.raises(SequenceError, match=message):
        Grammar(small, **arguments)


def test_in_the_released_ids(released):
    ids = write_completion(np.full((2, 2), 32_767), released, "a thought")
    state = Grammar(released, "reasoning").start()
    for token_id in ids:
        state.advance(token_id)
    assert state.done and state.problem is None and state.grid == Grid(2, 2)
    assert parse_completion(ids, released).reasoning == "a thought"
