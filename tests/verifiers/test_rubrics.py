"""Rubrics: checks written once for an instruction, kept in a file, answered for each edit."""

from __future__ import annotations

import asyncio
import json

import pytest
from test_judge import attempt, noise

from earl.config import JudgeSettings
from earl.endpoints.client import Answer, Token
from earl.errors import InvalidAnswerError
from earl.verifiers.rubrics import RubricVerifier, read_check, read_rubric, yes_probability

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving

CHECKS = ["Is the car red?", "Is the road as before?", "Is the image clean?"]


def token(*likeliest: tuple[str, float]) -> Token:
    return Token(likeliest[0][0], likeliest)


def test_the_probability_of_yes_by_hand():
    ln = {0.6: -0.5108256, 0.2: -1.6094379, 0.1: -2.3025851}
    found = yes_probability([token((" Yes", ln[0.6]), ("no", ln[0.1]), ("yes", ln[0.1]), ("maybe", ln[0.2]))])
    assert found == pytest.approx(0.7 / 0.8, abs=1e-6)
    assert yes_probability([token(("\n", 0.0)), token(("no", 0.0))]) == 0.0
    assert yes_probability([token(("maybe", ln[0.6]), ("yes", ln[0.2]))]) is None  # less than half
    assert yes_probability([]) is None


@pytest.mark.parametrize(
    ("text", "value"), [("Yes.", 1.0), ("**no**", 0.0), ("yes and no", None), ("", None)]
)
def test_words_count_without_probabilities(text, value):
    assert read_check(Answer(text), False)[0] == value


def test_a_refusal_that_begins_with_no_is_no_answer():
    refusal = Answer("No, I can't help with that.", tokens=(token(("No", 0.0)),))
    assert read_check(refusal, True) == (None, "the answer declines to judge")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (json.dumps({"checks": CHECKS[:2]}), "2 different checks"),
        (json.dumps({"checks": [*CHECKS[:2], CHECKS[0]]}), "2 different checks"),
        (json.dumps({"checks": [f"{n}?" for n in range(7)]}), "7 different checks"),
        (json.dumps({"checks": "yes"}), "list of questions"),
        (json.dumps({"checks": ["?" * 400, "b?", "c?"]}), "300 characters"),
        ("no", "no JSON object"),
    ],
)
def test_what_is_no_rubric(answer, why):
    with pytest.raises(InvalidAnswerError, match=why):
        read_rubric(answer)
    assert read_rubric("thus:\n" + json.dumps({"checks": CHECKS})) == tuple(CHECKS)


def words(body):
    return " ".join(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")


def script(body):
    asked = words(body)
    if "can be checked" in asked:
        return 200, completion(json.dumps({"checks": CHECKS}))
    return 200, completion("no" if "clean" in asked else "yes")


def judged(file, attempts, script=script, **settings):
    with serving(script) as endpoint:
        verifier = RubricVerifier(JudgeSettings(url=endpoint.url, rubrics=file, retries=0, **settings))
        return asyncio.run(verifier.judge(attempts)), [words(body) for body in endpoint.asked]


def test_checks_are_written_once_and_kept(tmp_path):
    file = str(tmp_path / "rubrics.jsonl")
    group = [attempt(edited=noise(seed)) for seed in (2, 3)]
    verdicts, asked = judged(file, group)
    assert [verdict.overall for verdict in verdicts] == [pytest.approx(20 / 3)] * 2
    assert len(asked) == 1 + 2 * 3 and "0.00 Is the image clean?" in verdicts[0].raw
    assert json.loads((tmp_path / "rubrics.jsonl").read_text())["checks"] == CHECKS
    verdicts, asked = judged(file, group)
    assert len(asked) == 2 * 3 and verdicts[0].ok  # the next run writes none
    _, asked = judged(file, [attempt(1, edited=noise(2))])
    assert len(asked) == 1 + 3  # another instruction has its own


def test_probabilities_are_asked_for(tmp_path):
    def sure(body):
        if "can be checked" in words(body):
            return script(body)
        logprobs = [
            {"token": "yes", "logprob": -0.2876821, "top_logprobs": [{"token": "no", "logprob": -1.3862944}]}
        ]
        return 200, completion("yes", logprobs=logprobs)

    (verdict,), _ = judged(None, [attempt()], sure, expected=True)
    assert verdict.overall == pytest.approx(7.5, abs=1e-5)
    (verdict,), _ = judged(None, [attempt()], expected=True)
    assert verdict.status == "unusable" and "log-probabilities" in verdict.why


def test_failures_are_a_status(tmp_path):
    (verdict,), asked = judged(None, [attempt()], lambda body: (200, completion("?")), rounds=2)
    assert verdict.status == "unusable" and "rubric" in verdict.why and len(asked) == 2
    (verdict,), _ = judged(None, [attempt()], lambda body: (500, "no"))
    assert verdict.status == "unreachable"
    unread = lambda body: script(body) if "can be checked" in words(body) else (200, completion("perhaps"))  # noqa: E731
    (verdict,), _ = judged(None, [attempt()], unread)
    assert verdict.status == "unusable" and "'perhaps'" in verdict.why
    (verdict,), _ = judged(None, [attempt(edited=None)])
    assert verdict.status == "undecodable"
