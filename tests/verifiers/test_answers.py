"""Reading scores from judges' answers: the shared table, and what else judges do."""

import json
from pathlib import Path

import pytest

from earl.verifiers.answers import read_scores

VECTORS = json.loads(
    (
        next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "vectors/judge_answers.json"
    ).read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
def test_the_shared_table(case):
    low, high = VECTORS["range"]
    reading = read_scores(case["answer"], count=VECTORS["count"], low=low, high=high)
    assert (list(reading.scores) if reading.scores else None) == case["scores"]
    assert bool(reading.problem) == (case["scores"] is None)


def test_there_are_27_cases():
    assert len(VECTORS["cases"]) == 27


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        ('{"score": [8, 9], "reasoning": "better than score: [1, 2]"}', (8, 9)),  # inside a sure string
        ('{"result": {"score": [8, 9]}, "reasoning": "x"}', (8, 9)),
        ('[{"score": [8, 9]}]', (8, 9)),
        ('{"score": [1, 2], "score": [9, 9]}', None),
        ('{"score": [8, 9]} and score: [8, 9,]', (8, 9)),
        ('{"score": [8, 9]} but score: [7, 9]', None),
        ('thought without its opening [1, 2]</think>{"score": [8, 9]}', (8, 9)),
        ('<think>never ends {"score": [8, 9]}', None),
        ('{"score": [7, ', None),
        ('{"score": [7, 8', None),
        ('{"score": 7, "reasoning": "x"}', None),
        ('{"score": {"edit": 7, "rest": 8}}', None),
        ('{"score": [true, false]}', None),
        ('{"score": ["8/10", "7"]}', None),
        ('{"score": [Infinity, 5]}', None),
        ('{"score": [1e400, 5]}', None),
        ('{"score": [' + "9" * 5000 + ", 5]}", None),
        ("a [cat] and [two, dogs]: [4, 6]", None),
        ("a [cat] and [two, dogs]:\n[4, 6]", (4, 6)),
        ("[4, 6] at box [1, 2]", None),
        ("[NaN, 5]", None),
        ("underscore: [4, 5]", None),  # a list in prose, not a key
        ("[" * 5000, None),
        ('{"a":' * 20000, None),
        ('{"score": [0, 10]}', (0, 10)),
        ('{"score": [0, 10.01]}', None),
        ('{"score": [-0.5, 10]}', None),
    ],
)
def test_what_else_is_written(answer, scores):
    assert read_scores(answer).scores == scores


def test_problems_say_what_is_wrong():
    assert "3 scores" in read_scores("[1, 2, 3]").problem
    assert "11" in read_scores("[11, 3]").problem
    assert "differ" in read_scores("[1, 3] [2, 3]").problem
    assert "empty" in read_scores(" \n").problem


def test_spans_point_at_the_numbers():
    misleading = '{"reasoning": "score: [1, 2]", "score": [7, 10]}'
    for answer in (misleading, '{"score": [7, 10], "reasoning": "x"}', "<think>[1, 2]</think> so [7, 10]"):
        reading = read_scores(answer)
        assert [answer[a:b] for a, b in reading.spans] == ["7", "10"]


def test_other_counts_and_ranges():
    assert read_scores("[3]", count=1).scores == (3,)
    assert read_scores("[50, 60, 70]", count=3, high=100).scores == (50, 60, 70)
