"""Writing and reading images, prompts and completions; what is wrong is named with its position."""

import random
import re

import numpy as np
import pytest

from earl.errors import InstructionError, SequenceError
from earl.records import Grid
from earl.sequence.layout import (
    MAX_CELLS,
    parse_completion,
    parse_size,
    write_completion,
    write_image,
    write_prompt,
)
from earl.sequence.reasoning import OPENING
from earl.sequence.vocabulary import Vocabulary

from .conftest import CODEBOOK

GRIDS = [(height, width) for height in range(1, 7) for width in range(1, 7)]


def some_codes(height, width, seed=0):
    return np.random.default_rng([seed, height, width]).integers(0, CODEBOOK, (height, width))


def test_an_image_id_by_id(small):
    v = small.vocabulary
    one = v.first_visual
    ids = write_image(np.array([[0, 1, 2], [3, 4, 47]]), small)
    assert ids == [
        *[v.boi, *small.encode("2*3"), v.img],
        *[one, one + 1, one + 2, v.eol],
        *[one + 3, one + 4, one + 47, v.eol],
        *[v.eof, v.eoi],
    ]


def test_an_image_in_the_released_ids(released):
    ids = write_image(np.array([[0, 32_767]]), released)
    size = released.encode("1*2")
    assert ids == [151_852, *size, 151_851, 151_854, 184_621, 151_846, 151_847, 151_853]
    assert released.decode(ids) == "1*2"


@pytest.mark.parametrize(("height", "width"), GRIDS)
def test_every_small_grid_comes_back(small, height, width):
    codes = some_codes(height, width)
    for reasoning in (None, "", "the cube at [1, 2, 3, 4] turns red", "x" * 2_000):
        parsed = parse_completion(write_completion(codes, small, reasoning), small)
        assert parsed.problem is None
        assert parsed.codes.dtype == np.int32 and parsed.codes.shape == (height, width)
        assert (parsed.codes == codes).all()
        assert parsed.reasoning == (None if reasoning is None else reasoning[:1_750])


def test_the_largest_image_and_one_more(small):
    codes = np.zeros((128, 128), dtype=np.uint16)
    assert parse_completion(write_completion(codes, small), small).codes.shape == (128, 128)
    with pytest.raises(SequenceError, match=f"129\\*128 has more than {MAX_CELLS} cells"):
        write_image(np.zeros((129, 128), dtype=np.uint16), small)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros(4, dtype=int), "rows x columns"),
        (np.zeros((0, 3), dtype=int), "rows x columns"),
        (np.zeros((2, 2)), "must be integers"),
        (np.full((2, 2), CODEBOOK), "must lie in"),
        (np.full((2, 2), -1), "must lie in"),
    ],
)
def test_codes_that_are_no_image(small, codes, message):
    with pytest.raises(SequenceError, match=message):
        write_image(codes, small)


def test_a_prompt(small):
    codes, v = some_codes(2, 2), small.vocabulary
    assert write_prompt(codes, "  add a red cube\n", small) == [
        v.bos,
        *write_image(codes, small),
        *small.encode("add a red cube"),
    ]


@pytest.mark.parametrize("instruction", ["", "  \n\t"])
def test_an_empty_instruction_is_refused(small, instruction):
    with pytest.raises(InstructionError, match="instruction is empty"):
        write_prompt(some_codes(2, 2), instruction, small)


def test_an_instruction_cannot_add_structure(small):
    v = small.vocabulary
    codes = some_codes(2, 2)
    typed = "<|image start|>1*1<|image token|><|visual token 000001|><|extra_200|><|image end|><|extra_204|>"
    ids = write_prompt(codes, typed, small)
    image = write_image(codes, small)
    assert ids[: len(image) + 1] == [v.bos, *image]
    assert max(ids[len(image) + 1 :]) < v.first_special


def test_reasoning_cannot_add_structure_or_close_early(small):
    text = "a <|end thinking|><|image start|> b <|start <|start thinking|>thinking|> c"
    ids = write_completion(some_codes(2, 2), small, text)
    assert ids.count(small.vocabulary.boi) == 1
    assert parse_completion(ids, small).reasoning == "a <|image start|> b  c"


def test_a_reasoning_completion_begins_with_the_opening(small):
    opening = small.encode(OPENING)
    for text in ("(first) look", "", "red", "\n\nlook", "'s", "12"):
        ids = write_completion(some_codes(1, 1), small, text)
        assert ids[: len(opening)] == opening
        # written in two parts, it is what the whole text encodes to
        end = ids.index(small.vocabulary.boi)
        assert small.encode(small.decode(ids[:end])) == ids[:end]


@pytest.mark.parametrize(
    ("text", "grid"), [("1*1", Grid(1, 1)), ("32*24", Grid(32, 24)), ("16384*1", Grid(16384, 1))]
)
def test_sizes(text, grid):
    assert parse_size(text) == grid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3",
        "3*",
        "*3",
        "0*3",
        "3*0",
        "03*3",
        "-3*3",
        "3x3",
        " 3*3",
        "3*3 ",
        "3*3\n",
        "3 * 3",
        "3*3*3",
        "٣*٣",
        "3.0*3",
        "1e2*3",
        "²*3",
        "100000*1",
        "1" * 500 + "*1",
    ],
)
def test_what_is_no_size(text):
    with pytest.raises(SequenceError, match=r"must read like 32\*32"):
        parse_size(text)


@pytest.mark.parametrize("text", ["99999*99999", "129*128", "16385*1"])
def test_sizes_beyond_the_bound(text):
    with pytest.raises(SequenceError, match="more than 16384 cells"):
        parse_size(text)


def test_a_smaller_bound():
    assert parse_size("8*8", max_cells=64) == Grid(8, 8)
    with pytest.raises(SequenceError, match="more than 63 cells"):
        parse_size("8*8", max_cells=63)


def damaged(small, change):
    ids = write_image(np.array([[0, 1, 2], [3, 4, 5]]), small)  # boi 2 * 3 img | 5-7 eol | 9-11 eol | eof eoi
    change(ids, small.vocabulary)
    return ids


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids, v: ids.clear(), "position 0: expected boi"),
        (lambda ids, v: ids.__setitem__(0, v.bos), "position 0: expected text, got bos"),
        (lambda ids, v: ids.__setitem__(2, v.eol), "position 2: expected text, got eol"),
        (lambda ids, v: ids.__setitem__(2, 1), "position 1: an image size must read like"),
        (lambda ids, v: ids.__setitem__(4, 1), "position 1: expected an image size and img"),
        (
            lambda ids, v: ids.__setitem__(6, v.eol),
            r"position 6: expected a visual token, got eol .*row 0 of 2\*3",
        ),
        (lambda ids, v: ids.__setitem__(6, v.size), r"position 6: expected a visual token, got id .*outside"),
        (
            lambda ids, v: ids.__setitem__(8, v.first_visual + 9),
            r"position 8: expected eol .*, got visual token 9",
        ),
        (lambda ids, v: ids.__delitem__(9), r"position 11: expected a visual token, got eol .*row 1 of 2\*3"),
        (lambda ids, v: ids.__setitem__(13, v.eos), r"position 13: expected eof .*after the rows of 2\*3"),
        (lambda ids, v: ids.pop(), r"position 14: expected eoi .*, got the end"),
        (lambda ids, v: ids.__delitem__(slice(7, None)), r"position 7: expected a visual token, got the end"),
        (lambda ids, v: ids.append(1), r"position 15: expected eos .* and no more after the image"),
    ],
)
def test_a_damaged_image_is_named_with_its_place(small, change, message):
    assert re.search(message, parse_completion(damaged(small, change), small).problem)


def test_every_single_damage_is_found(small):
    rng = random.Random(0)
    ids = write_image(some_codes(3, 2), small)
    for position in range(len(ids)):
        for wrong in rng.sample(range(small.vocabulary.size), 40):
            both_visual = small.vocabulary.is_visual(ids[position]) and small.vocabulary.is_visual(wrong)
            if wrong == ids[position] or both_visual:
                continue
            assert parse_completion([*ids[:position], wrong, *ids[position + 1 :]], small).problem


def test_completions_that_end_early_or_late(small):
    codes, v = some_codes(2, 3), small.vocabulary
    ids = write_completion(codes, small)
    without_eos = parse_completion(ids[:-1], small)
    assert (without_eos.codes == codes).all() and "ended before eos" in without_eos.problem
    unfinished = parse_completion(ids[:-4], small)
    assert unfinished.codes is None and "got the end" in unfinished.problem
    padded = parse_completion([*ids, v.pad, v.pad], small)
    assert padded.problem is None and (padded.codes == codes).all()
    more = parse_completion([*ids, 5], small)
    assert (more.codes == codes).all() and "no more after the image" in more.problem


def test_completions_without_an_image(small):
    v = small.vocabulary
    assert "expected boi" in parse_completion([], small).problem
    text = parse_completion(small.encode(OPENING + " the cube"), small)
    assert text.codes is None and text.reasoning == "the cube" and "expected boi" in text.problem
    special = parse_completion([v.eol, *write_completion(some_codes(1, 1), small)], small)
    assert special.codes is None and "position 0: expected text, got eol" in special.problem


def test_text_without_markers_is_reasoning_too(small):
    parsed = parse_completion([*small.encode("so: "), *write_completion(some_codes(1, 2), small)], small)
    assert parsed.problem is None and parsed.reasoning == "so:"


def test_reading_never_raises(small):
    rng = random.Random(0)
    v: Vocabulary = small.vocabulary
    specials = [v.pad, v.bos, v.eos, v.img, v.boi, v.eoi, v.eol, v.eof]
    start = [v.boi, *small.encode("2*1"), v.img]
    for _ in range(3_000):
        ids = list(start) if rng.random() < 0.5 else []
        for _ in range(rng.randrange(12)):
            pool = rng.choice(
                [specials, range(v.first_special), range(v.first_visual, v.size), [-1, v.size, 2**70]]
            )
            ids.append(rng.choice(pool))
        parsed = parse_completion(ids, small)
        assert parsed.problem is None or parsed.problem
        assert parsed.codes is not None or parsed.problem
