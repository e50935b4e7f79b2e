"""What is read out of an answer, what is refused, and how the text looks."""

from __future__ import annotations

import json

import pytest
from reasoning_set import CHAIN, chain

from earl.endpoints.message import Slot
from earl.errors import ConfigError, InvalidAnswerError
from earl.reasoning.chains import read_chain
from earl.reasoning.instructions import read_instruction
from earl.reasoning.questions import load_template
from earl.records import Box
from earl.sequence.reasoning import find_boxes

SIZE = (64, 48)


def test_the_text_has_the_five_steps_with_their_keys():
    text = read_chain(chain(), SIZE).text()
    assert text == (
        "source: The image shows a grey wall with nothing on it. object: The edit is about a new red square. "
        "region: [8, 8, 24, 24] change: A red square appears on the wall. "
        "result: The image shows a grey wall with a red square."
    )
    assert find_boxes(text) == [Box(8, 8, 24, 24)]


def test_boxes_are_scaled_wherever_they_stand():
    read = read_chain(chain(change="The thing at [0, 0, 64, 48] goes to (10, 10, 20, 20)"), SIZE)
    text = read.scaled(SIZE, (128, 24))
    assert "region: [16, 4, 48, 12] change:" in text
    assert "The thing at [0, 0, 128, 24] goes to (20, 5, 40, 10)." in text


@pytest.mark.parametrize(
    "answer",
    [
        f"```json\n{chain()}\n```",
        f"<think>maybe {{}} or {chain(source='no no no')}</think>Here it is: {chain()} I hope it helps.",
        chain(source="1. The image shows a grey wall\n with nothing on it."),
        chain(region=[8, 8, 24, 24]),
        chain(region="[[8, 8, 24, 24]]"),
        '{"other": 1} ' + chain(),
    ],
)
def test_answers_as_models_write_them(answer):
    assert read_chain(answer, SIZE) == read_chain(chain(), SIZE)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ("", "the answer is empty"),
        ("I cannot help with that.", "no JSON object"),
        ('{"source": "cut off in the mid', "cut off or broken"),
        ('{"sauce": "cut off in the mid', "no JSON object"),
        (json.dumps({k: v for k, v in CHAIN.items() if k != "object"}), '"object" is missing'),
        (json.dumps({k: v for k, v in CHAIN.items() if k != "region"}), '"region" is missing'),
        (chain(change=["a", "b"]), '"change" is no text'),
        (chain(result="  yes "), "'yes'; expected a sentence"),
        (chain(region=[]), "has no box"),
        (chain(region=[[8, 8, 8, 24]]), "is empty"),
        (chain(region="somewhere"), "expected a list of four numbers"),
        (chain(region=[[8, 8, 80, 24]]), r"\[8, 8, 80, 24\] is not in the image of 64x48"),
        (chain(region=[[-5, 8, 20, 24]]), "not in the image"),
        (chain(change="It goes to [50, 40, 90, 90] then"), r"\[50, 40, 90, 90\] is not in"),
        (chain(region=[[i, 0, i + 1, 1] for i in range(9)]), "9 boxes, at most 8"),
        (chain(source="word " * 400), "characters, at most 1750"),
    ],
)
def test_what_cannot_be_used_says_why(answer, problem):
    with pytest.raises(InvalidAnswerError, match=problem):
        read_chain(answer, SIZE)


def test_the_region_has_to_touch_where_the_edit_is():
    assert read_chain(chain(), SIZE, [Box(20, 20, 40, 40)])
    assert read_chain(chain(region=[[0, 0, 4, 4], [39, 39, 41, 41]]), SIZE, [Box(20, 20, 40, 40)])
    with pytest.raises(InvalidAnswerError, match=r"\[8, 8, 24, 24\] is apart from .* \[24, 8, 40, 40\]"):
        read_chain(chain(), SIZE, [Box(24, 8, 40, 40)])


def test_instructions_are_read_and_checked():
    assert read_instruction('Sure: {"instruction": "Add  two\\nboats"}') == "Add two boats"
    for answer, problem in (
        ("", "empty"),
        ('{"instruction": 3}', "no text"),
        ('{"instruction": "go"}', "expected a sentence"),
        (json.dumps({"instruction": "word " * 100}), "at most 300"),
    ):
        with pytest.raises(InvalidAnswerError, match=problem):
            read_instruction(answer)


def test_questions_hold_images_in_their_places():
    template = load_template("reasoning")
    parts = template.parts({"instruction": "say <source> and <facts>", "width": "512", "height": "384"})
    assert [part for part in parts if isinstance(part, Slot)] == [Slot("source"), Slot("target")]
    words = [part for part in parts if isinstance(part, str)]
    assert "512 pixels wide and 384 pixels high" in words[0]
    assert "The instruction was: say <source> and <facts>" in words[2]
    assert "paint the door of the hut green" in words[2]  # the examples
    assert len(template.hash) == 12


def test_own_templates_are_checked(tmp_path):
    with pytest.raises(ConfigError, match=r"no reasoning\.txt"):
        load_template("reasoning", tmp_path)
    (tmp_path / "instruction.txt").write_text("From <before> to <after>: <examples>")
    plain = load_template("instruction", tmp_path)
    assert plain.parts({"before": "a", "after": "<before>"}) == ["From a to <before>:"]
    (tmp_path / "instruction-examples.txt").write_text("such")
    shown = load_template("instruction", tmp_path)
    assert shown.parts({"before": "a", "after": "b"}) == ["From a to b: such"]
    assert shown.hash != plain.hash and shown.version == tmp_path.name
    (tmp_path / "instruction.txt").write_text("From <before>")
    with pytest.raises(ConfigError, match="lacks <after>"):
        load_template("instruction", tmp_path)
    (tmp_path / "instruction.txt").write_text("<before> <after> <when>")
    with pytest.raises(ConfigError, match="has <when>; its places are <before>"):
        load_template("instruction", tmp_path)
