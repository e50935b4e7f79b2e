import json
from pathlib import Path

import numpy as np
import pytest

from earl.errors import SequenceError
from earl.records import Box
from earl.sequence.layout import write_completion
from earl.sequence.reasoning import (
    MAX_REASONING_CHARACTERS,
    OPENING,
    clean_reasoning,
    format_box,
    join_chains,
    read_reasoning,
    reasoning_body,
    scale_box,
    scale_boxes,
    scale_point,
)
from earl.sequence.trained import train_text_tokenizer


def test_cut_at_1750_characters():
    assert MAX_REASONING_CHARACTERS == 1_750
    assert clean_reasoning("  " + "ab" * 1_000 + " ") == "ab" * 875


def test_markers_are_taken_out_even_when_nested():
    assert clean_reasoning("a<|end thinking|>b<|start thinking|>c") == "abc"
    assert clean_reasoning("<|end <|end thinking|>thinking|>") == ""


def test_cleaning_twice_changes_nothing():
    for text in ("x" * 1_749 + "  y", " <|end thinking|> a ", "é" * 1_800):
        assert clean_reasoning(clean_reasoning(text)) == clean_reasoning(text)


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (" Let's think step by step. <|start thinking|> a b <|end thinking|>", "a b"),
        (" Let's think step by step. <|start thinking|> a b", "a b"),
        (" Let's think step by step. <|start thinking|> <|end thinking|>", ""),
        ("a b", "a b"),
        (" Let's think step by step. <|start thinking|> a b <|end thin", "a b"),
        (" style<|", "style"),
        (" <|<|end thinking", ""),
        (" Let's think step by step. <|start thinking|> style<|<|end thinking|>", "style"),
        (" a < b <| c", "a < b <| c"),
        ("", None),
        (" \n", None),
    ],
)
def test_reading(text, body):
    assert read_reasoning(text) == body


def test_a_box_is_scaled_by_each_side():
    box = scale_box(Box(10, 20, 30, 40), (100, 200), (50, 400))
    assert box == Box(5, 40, 15, 80)


def test_a_box_is_clamped_to_the_image():
    assert scale_box(Box(-5, 0, 120, 90), (100, 100), (64, 64)) == Box(0, 0, 64, 57.6)


def test_boxes_in_text():
    text = "The cube at [10, 20, 30, 40] and (0,0,100,200); 3 of 4, [1, 2, 3], [1, 2, 3, 4, 5]."
    assert scale_boxes(text, (100, 200), (50, 400)) == (
        "The cube at [5, 40, 15, 80] and (0, 0, 50, 400); 3 of 4, [1, 2, 3], [1, 2, 3, 4, 5]."
    )


def test_fractions_are_rounded_half_up():
    assert scale_boxes("[0.5, 1, 2.5, 3.49]", (8, 8), (8, 8)) == "[1, 1, 3, 3]"
    assert format_box(Box(0.5, 1, 2.5, 3.49)) == "[1, 1, 3, 3]"


@pytest.mark.parametrize("size", [(0, 10), (10, -1)])
def test_sizes_must_be_positive(size):
    with pytest.raises(SequenceError, match="must be positive"):
        scale_boxes("[1, 2, 3, 4]", (10, 10), size)
    with pytest.raises(SequenceError, match="must be positive"):
        scale_box(Box(0, 0, 1, 1), size, (10, 10))


VECTORS = next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "vectors"
CASES = json.loads((VECTORS / "reasoning.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["keys"][0])
def test_a_completion_s_reasoning_is_the_release_s(case):
    chains = {key: case["chains"][key] for key in case["keys"] if key in case["chains"]}
    body = join_chains(chains)
    wanted = case["completion_before_image"]
    assert OPENING + reasoning_body(body) == wanted
    tokenizer = train_text_tokenizer([wanted] * 3, size=400, codebook_size=8)
    ids = write_completion(np.zeros((1, 1), int), tokenizer, body)
    assert ids[: ids.index(tokenizer.vocabulary.boi)] == tokenizer.encode(wanted), "as one string"
    assert read_reasoning(wanted) == clean_reasoning(body)


def test_a_point_is_scaled_as_a_box_is():
    assert scale_point((10, 20), (100, 40), (50, 80)) == (5, 40)
    assert scale_point((120, 20), (100, 40), (50, 80)) == (50, 40)
