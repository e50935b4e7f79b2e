"""The judge's options: own templates, structured answers, expected scores, averages."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise

import pytest
from test_judge import GOOD, attempt, is_semantic, judge_at, verdict_of

from earl.endpoints.client import Token
from earl.endpoints.message import Slot
from earl.errors import ConfigError
from earl.verifiers.answers import read_scores
from earl.verifiers.expected import expected_scores
from earl.verifiers.questions import load_prompts

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving


def own_prompts(folder, *, semantic: str, perceptual: str = "Rate it.\n") -> str:
    (folder / "semantic.txt").write_text(semantic, encoding="utf-8")
    (folder / "perceptual.txt").write_text(perceptual, encoding="utf-8")
    return str(folder)


def test_own_wording(tmp_path):
    folder = own_prompts(tmp_path, semantic="RULES. Editing instruction: <instruction>")
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        verdict = asyncio.run(judge_at(endpoint.url, prompts=folder).judge([attempt()]))[0]
        asked = sorted(endpoint.questions())
        body = next(body for body in endpoint.asked if is_semantic(body))
    assert asked == ["RULES. Editing instruction: edit 0", "Rate it."]
    assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "image_url", "text"]
    assert verdict.notes["prompts"] == tmp_path.name
    assert verdict.notes["prompts_hash"] not in ("", load_prompts().hash)


def test_the_hash_tells_wordings_apart(tmp_path):
    before = load_prompts(own_prompts(tmp_path, semantic="<instruction>")).hash
    assert load_prompts(tmp_path).hash == before
    assert load_prompts(own_prompts(tmp_path, semantic="<instruction>!")).hash != before


@pytest.mark.parametrize(
    ("semantic", "what"),
    [
        ("no place for words", "<instruction>"),
        ("<instruction> <source>", "images"),
        ("<instruction> <source> <edited> <edited>", "images"),
        ("  ", "empty"),
    ],
)
def test_templates_that_do_not_fit(tmp_path, semantic, what):
    folder = own_prompts(tmp_path, semantic=semantic)
    with pytest.raises(ConfigError, match=what):
        judge_at("http://127.0.0.1:9/v1", prompts=folder)


def test_missing_templates(tmp_path):
    with pytest.raises(ConfigError, match="no folder"):
        load_prompts(tmp_path / "none")
    with pytest.raises(ConfigError, match=r"lacks semantic\.txt"):
        load_prompts(tmp_path, needed=("semantic",))


def test_every_template_of_the_package_fits():
    prompts = load_prompts()
    for question in ("semantic", "perceptual", "reference"):
        prompts.check(question, swapped=True)


def test_swapping_exchanges_images_with_their_labels():
    prompts = load_prompts()
    plain = prompts.parts("semantic", "x")
    swapped = prompts.parts("semantic", "x", swapped=True)
    assert [part.name for part in plain if isinstance(part, Slot)] == ["source", "edited"]
    assert [part.name for part in swapped if isinstance(part, Slot)] == ["edited", "source"]
    for parts in (plain, swapped):
        for label, picture in pairwise(parts):
            if isinstance(label, str) and isinstance(picture, Slot):
                assert label.endswith("before the edit:" if picture.name == "source" else "after the edit:")


def test_the_swapped_order_is_averaged():
    def script(body):
        words = body["messages"][0]["content"][0]["text"]
        if not is_semantic(body):
            return 200, completion('{"score": [5, 5]}')
        return 200, completion(
            '{"score": [4, 8]}' if words.endswith("before the edit:") else '{"score": [7, 9]}'
        )

    verdict = verdict_of(script, swap=True)
    assert (verdict.edit_success, verdict.over_editing, verdict.naturalness) == (5.5, 8.5, 5)


def test_swapping_needs_image_lines(tmp_path):
    folder = own_prompts(tmp_path, semantic="<instruction>")
    with pytest.raises(ConfigError, match="own line"):
        judge_at("http://127.0.0.1:9/v1", prompts=folder, swap=True)


@pytest.mark.parametrize("at_once", [True, False], ids=["n answers", "one whatever n says"])
def test_several_answers_are_averaged(at_once):
    scores = iter([[2, 4], [4, 6], [9, 8]])

    def script(body):
        if not is_semantic(body):
            return 200, completion(*[GOOD] * (body.get("n", 1) if at_once else 1))
        count = body.get("n", 1) if at_once else 1
        return 200, completion(*[str(next(scores)) for _ in range(count)])

    verdict = verdict_of(script, samples=3, temperature=0.7)
    assert (verdict.edit_success, verdict.over_editing) == (5.0, 6.0)
    assert verdict.notes["answers"] == 6


@pytest.mark.parametrize(("bad", "status"), [(1, "ok"), (2, "unusable")])
def test_more_than_half_of_the_answers_must_be_usable(bad, status):
    def script(body):
        return 200, completion(*["?"] * bad, *["[6, 8]"] * (3 - bad))

    verdict = verdict_of(script, samples=3, temperature=1.0)
    assert verdict.status == status
    assert verdict.edit_success == (6 if status == "ok" else None)


def test_what_the_options_put_into_the_request():
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        judge = judge_at(
            endpoint.url, structured=True, seed=5, temperature="server", max_tokens=77, extra={"top_k": 3}
        )
        asyncio.run(judge.judge([attempt()]))
        body = endpoint.asked[0]
        asyncio.run(judge_at(endpoint.url).judge([attempt()]))
        plain = endpoint.asked[-1]
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["score"]["minItems"] == schema["properties"]["score"]["maxItems"] == 2
    assert (body["seed"], body["max_completion_tokens"], body["top_k"]) == (5, 77, 3)
    assert "temperature" not in body and "n" not in body and "logprobs" not in body
    assert plain["temperature"] == 0 and "response_format" not in plain and "seed" not in plain


def tokens_of(*entries) -> list[dict]:
    """(text, {text: probability}) as the API writes them."""
    return [
        {
            "token": text,
            "logprob": math.log(share.get(text, 1e-9)),
            "top_logprobs": [{"token": other, "logprob": math.log(p)} for other, p in share.items()],
        }
        for text, share in entries
    ]


def test_expected_scores_come_from_the_distribution():
    sure = {"x": 1.0}
    tokens = tokens_of(
        ('{"score": [', sure),
        ("7", {"7": 0.5, "8": 0.3, "6": 0.2}),
        (",", sure),
        (" 9", {" 9": 1.0}),
        ("]}", sure),
    )
    verdict = verdict_of(lambda body: (200, completion('{"score": [7, 9]}', logprobs=tokens)), expected=True)
    assert verdict.edit_success == pytest.approx(7.1)
    assert verdict.over_editing == pytest.approx(9)


def test_without_log_probabilities_there_is_no_expected_score():
    verdict = verdict_of(lambda body: (200, completion(GOOD)), expected=True)
    assert verdict.status == "unusable" and "log-probabilities" in verdict.why


def token(text: str, **shares: float) -> Token:
    return Token(text, tuple((name.strip("_"), math.log(p)) for name, p in (shares or {text: 1.0}).items()))


def expected_of(answer: str, *tokens: Token):
    return expected_scores(answer, read_scores(answer).spans, tokens)


def test_ten_in_two_tokens_is_split_by_what_follows():
    ten = [token("1", _1=0.6, _9=0.4), token("0", _0=0.75, **{",": 0.25})]
    scores, problem = expected_of("[10, 3]", token("["), *ten, token(", "), token("3"), token("]"))
    # 0.6 * 0.75 says 10, 0.6 * 0.25 says 1, 0.4 says 9
    assert not problem and scores == (pytest.approx(0.45 * 10 + 0.15 * 1 + 0.4 * 9), pytest.approx(3))


def test_an_unresolved_one_is_left_out():
    scores, _ = expected_of(
        "[9, 3]", token("["), token("9", _9=0.6, _1=0.4), token(", "), token("3"), token("]")
    )
    assert scores == (pytest.approx(9), pytest.approx(3))
    scores, problem = expected_of(
        "[9, 3]", token("["), token("9", _9=0.4, _1=0.6), token(", "), token("3"), token("]")
    )
    assert scores is None and "0.40" in problem


def test_ten_in_one_token():
    scores, _ = expected_of(
        "[10, 3]", token("["), token("10", _10=0.5, _1=0.5), token(", "), token("3"), token("]")
    )
    assert scores == (pytest.approx(5.5), pytest.approx(3))


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ("[7.5, 3]", [token("["), token("7"), token(".5"), token(", "), token("3"), token("]")]),
        ("[7, 3]", [token("[7"), token(", "), token("3"), token("]")]),
        ("[7, 3]", [token("something else")]),
        ("[7, 3]", []),
        ("score: [7, 3] [7, 4]", [token("score: [7, 3] [7, 4]")]),
    ],
)
def test_no_expected_score_from_what_does_not_line_up(answer, tokens):
    scores, problem = expected_of(answer, *tokens)
    assert scores is None and problem
