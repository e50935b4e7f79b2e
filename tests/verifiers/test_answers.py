"""Reading scores from judges' answers: the shared table, and what else judges do."""

import json
import time
from pathlib import Path

import pytest

from earl.verifiers.answers import read_lines, read_scores, read_tagged

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


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('{"confidence": 0}', "no scores in the answer"),
        ('{"verdict": "a good edit", "confidence": 0}', "no scores in the answer"),
        ('{"score": [8, 9], "confidence": 0}', 'the answer says "confidence": 0, so it is no verdict'),
        ('{"score": [8, 9], "confidence_level": "0%"}', 'says "confidence_level": 0%'),
        ("Confidence: 0\nScore: [8, 9]", "declines"),
        ("I would give it seven out of ten for the edit, and eight out of ten for the rest.", "in words"),
        ('{"score": ["seven", "eight"]}', "'seven' is not a number"),
        ('{"score": [7, 8], "reasoning": "x"}\nFinal: nine out of ten', "differ"),
    ],
)
def test_no_confidence_and_scores_in_words_are_unusable_with_the_reason(answer, problem):
    reading = read_scores(answer)
    assert reading.scores is None and problem in reading.problem


@pytest.mark.parametrize(
    "answer",
    [
        '{"score": [7, 8], "confidence": 0.9}',
        '{"score": [7, 8], "confidence": 10}',
        "Confidence: 0.9\nScore: [7, 8]",
        "Confidence (0-1): 1\nScore: [7, 8]",
        '{"score": [7, 8]}\nFinal: seven out of ten',
        '{"score": [7, 8], "reasoning": "one out of five birds is gone"}',
    ],
)
def test_confidence_and_words_beside_a_verdict_leave_it(answer):
    assert read_scores(answer).scores == (7, 8)


def test_a_tagged_score_beside_another_in_words_is_unusable():
    assert read_tagged("My score is seven out of ten\n<score>7</score>", low=0, high=10).scores == (7,)
    reading = read_tagged("My score is nine out of ten\n<score>7</score>", low=0, high=10)
    assert "differ" in reading.problem


def test_spans_point_at_the_numbers():
    misleading = '{"reasoning": "score: [1, 2]", "score": [7, 10]}'
    for answer in (misleading, '{"score": [7, 10], "reasoning": "x"}', "<think>[1, 2]</think> so [7, 10]"):
        reading = read_scores(answer)
        assert [answer[a:b] for a, b in reading.spans] == ["7", "10"]


def test_other_counts_and_ranges():
    assert read_scores("[3]", count=1).scores == (3,)
    assert read_scores("[50, 60, 70]", count=3, high=100).scores == (50, 60, 70)


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        ("I'm sorry, but I can't rate images of people on a scale of [0, 10].", None),
        ("See policy [3, 7].", None),
        ('{"max_score": [10, 10]}', None),
        ('{"example": {"score": [10, 10]}, "verdict": "cannot judge"}', None),
        ('The format is {"score": [10, 10]} but I decline', None),
        ('The format is:\n{"score": [10, 10]}\nPlease send both images.', None),
        ('{"score": [9, 9]}\nWait, the roof is still red.', None),
        ('{"score": [9, 9]}\nThe roof is actually red now.', (9, 9)),
        ("First I thought score: [7, 9], the final score is [8, 9].", None),
        ("score: [3, 4]\nI need to look at the roof.", None),
        ("Score: [3, 4]\nReasoning: the roof is red.", (3, 4)),
        ("On a scale of [0, 10]:\n[6, 7]", (6, 7)),
        ("◁think▷ score: [3, 4]. Let me look", None),
        ('[THINK]{"score": [3, 4]}[/THINK]{"score": [8, 9]}', (8, 9)),
        ("<|channel|>analysis<|message|>score: [3, 4]<|end|><|channel|>final<|message|>[8, 9]", (8, 9)),
        ('Final answer: ```json\n{"score": [8, 9]}\n```', (8, 9)),
        ('{"reasoning": "it says "STOP", twice", "score": [8, 9]}', (8, 9)),
    ],
)
def test_scores_count_where_a_verdict_stands(answer, scores):
    assert read_scores(answer).scores == scores


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        ('{"score": [6, 7], "reasoning": "The car is', (6, 7)),
        ('{"score": [6, 7]}', (6, 7)),
        ('{"score": [6, 7]} Let me', None),
        ('{"score": [6, 7]}\nThe roof', None),
        ("Score: [6, 7]", None),
        ('{"score": [6, 7', None),
    ],
)
def test_an_answer_that_was_cut_off_counts_only_with_whole_scores_in_its_object(answer, scores):
    assert read_scores(answer, cut_off=True).scores == scores


@pytest.mark.parametrize(
    "answer",
    ["[" + " " * 60_000, "<think>" * 14_000, '{"a":' * 20_000, "[1] " * 25_000, "{" * 100_000, "x" * 200_000],
)
def test_hostile_answers_take_no_time(answer):
    began = time.process_time()
    assert read_scores(answer).scores is None
    assert time.process_time() - began < 2


@pytest.mark.parametrize("said", ["Das Auto ist jetzt rot.", "汽车现在是红色的。", "The car is red now."])
def test_a_list_without_a_name_behind_a_sentence(said):
    """It may be a verdict, or what a refusal in a language that is not known ends with."""
    assert read_scores(f"{said}\n[0, 0]").scores is None
    assert read_scores(f"{said}\nScore: [0, 0]").scores == (0, 0)
    assert read_scores(f"{said.rstrip('.。!')}:\n[0, 0]").scores == (0, 0)


@pytest.mark.parametrize(
    "other",
    [
        "Final: 9 and 9",
        "Score: (9, 9)",
        "Score: 9/10, 9/10",
        "Success: 9/10. Restraint: 9/10",
        "**Score:** 9, 9",
        "<score>9</score><score>9</score>",
        "rating: [9, 9]",
        "\\boxed{9, 9}",
        "score:\n- 9\n- 9",
        "| score | 9 | 9 |",
        "分数：[9, 9]",
        "Punkte: [9, 9]",
        "[9; 9]",
        "9, 9",
        "On reflection: [9, 9]",
        "【9, 9】",
        "Overall score: 9 out of 10",
        "score -> [9, 9]",
        "score (final): [9, 9]",
        "score for the edit: [9, 9]",
        '{"final": [9, 9]}',
        '{"rating": [9, 9]}',
        '{"score_final": [9, 9]}',
        '{"success": 9, "restraint": 9}',
    ],
)
def test_scores_that_differ_in_another_notation(other):
    for answer in (f'{{"score": [2, 2]}}\n{other}', f'{other}\n{{"score": [2, 2]}}'):
        assert read_scores(answer).scores is None, answer
    assert "differ" in read_scores(f'{{"score": [2, 2]}}\n{other}').problem
    assert read_scores(f'{other}\n{{"score": [9, 9]}}').scores == (9, 9)


@pytest.mark.parametrize(
    "prose",
    [
        "On a scale of 0 to 10, I rate as follows.",
        "Score range: 0-10",
        "1. The car is red.\n2. The sky is the same.",
        "**Edit success: 7/10**, the car.\n**Over-editing: 9/10**, fine.",
        "| criterion | score |\n|---|---|\n| success | 7 |\n| restraint | 9 |",
        "The scoreboard shows 3 - 2.",
        "Overall, 2 cars were changed.",
        "I gave a score of 7 for success and of 9 for restraint.",
        "The cat cannot be seen any more.",
        "Le reste n'a pas changé.",
        "背景没有变化。",
    ],
)
def test_prose_that_says_no_other_scores(prose):
    assert read_scores(f'{prose}\n{{"score": [7, 9]}}').scores == (7, 9)


def test_reasons_may_say_what_could_not_be_seen():
    for reason in (
        "the sign cannot be compared, it is hidden",
        "it looks as if pasted",
        "I can't see the sky",
        "I do not see any changes in the image",
        "the cat in the second image is missing",
        "the placeholder text on the sign is left",
        "该编辑未能添加猫，无法识别文字。",
        "Das Auto kann man nicht erkennen",
    ):
        assert read_scores(json.dumps({"score": [8, 9], "reasoning": reason}, ensure_ascii=False)).scores == (
            8,
            9,
        )
    assert read_scores("It looks as if it was pasted.\nScore: [4, 6]").scores == (4, 6)


@pytest.mark.parametrize(
    ("answer", "cut_off", "score"),
    [
        ("The car is red. <score>7</score>", False, 7),
        ("The car is red, so\n**<score> 7 </score>**.", True, 7),
        ("<think>maybe <score>3</score></think><score>7</score>", False, 7),
        ("<think>maybe <score>3</score>, but", True, None),
        ("At first <score>3</score>, then I saw the roof", True, None),
        ("First <score>3</score>, now <score>7</score>", False, None),
        ("First <score>3.5</score>, now <score>7</score>", False, None),
        ("The format is <score>7</score>, but I cannot judge this.", False, None),
        ("No puedo evaluar esto.\n<score>0</score>", False, None),
        ("Score: 3/10\n<score>7</score>", False, None),
        ("<score>7</score>\nMy final score is 3", False, None),
        ("<score>7</score>\n<SCORE>3</SCORE>", False, None),
        ("Naturalness score: 5\nFinal score: 7\n<score>7</score>", False, 7),
        ("For example: <score>10</score>", False, None),
        ("<score>10</score> would be a perfect edit.", False, None),
        ("<score>7</score>\nWait, the roof is red.", False, None),
        ("<score>" + "9" * 5000 + "</score>", False, None),
        ("<score>" * 14_000, False, None),
    ],
)
def test_a_number_between_tags(answer, cut_off, score):
    reading = read_tagged(answer, low=0, high=10, cut_off=cut_off)
    assert reading.scores == (None if score is None else (score,)) and bool(reading.problem) == (
        score is None
    )


def test_numbers_in_lines():
    lines = "Compliance: 4\nSeamlessness: 5\nDetail: 3"
    assert read_lines(f"<think>Fidelity: 1</think>\n{lines}", 3, low=1, high=5).scores == (4, 5, 3)
    for bad in (f"For example:\n{lines}", f"I can't rate this.\n{lines}", "Detail: " + "9" * 5000):
        assert read_lines(bad, 3, low=1, high=5).scores is None
    assert "cut off" in read_lines(lines, 3, low=1, high=5, cut_off=True).problem
