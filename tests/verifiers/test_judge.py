"""The judge: what it asks, what it makes of the answers, and every way in which it can fail."""

from __future__ import annotations

import asyncio
import base64
import io
import socket
import time

import numpy as np
import pytest
from PIL import Image

from earl.config import JudgeSettings
from earl.errors import ConfigError, VerifierError
from earl.records import Attempt
from earl.verifiers.judge import JudgeVerifier, ReferenceVerifier
from earl.verifiers.protocol import Verifier, check

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving

GOOD = '{"score": [7, 9], "reasoning": "fine"}'
KEY = "EARL_TEST_JUDGE_KEY"


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (24, 16, 3), np.uint8))


def attempt(number: int = 0, **more) -> Attempt:
    return Attempt(**({"source": noise(1), "instruction": f"edit {number}", "edited": noise(2)} | more))


def judge_at(url: str, **settings) -> JudgeVerifier:
    return JudgeVerifier(
        JudgeSettings(url=url, **({"retries": 2, "timeout": 100, "deadline": 200} | settings))
    )


def verdict_of(script, *, one: Attempt | None = None, **settings):
    with serving(script) as endpoint:
        return asyncio.run(judge_at(endpoint.url, **settings).judge([one or attempt()]))[0]


def is_semantic(body: dict) -> bool:
    return sum(part["type"] == "image_url" for part in body["messages"][0]["content"]) == 2


def by_question(semantic: str, perceptual: str):
    return lambda body: (200, completion(semantic if is_semantic(body) else perceptual))


def test_two_questions_make_a_verdict():
    verdict = verdict_of(by_question('{"score": [7, 9]}', '{"score": [6, 4]}'))
    assert verdict.ok
    assert (verdict.edit_success, verdict.over_editing) == (7, 9)
    assert (verdict.naturalness, verdict.artifacts) == (6, 4)
    assert verdict.overall == pytest.approx((7 * 4) ** 0.5)
    assert "[7, 9]" in verdict.raw and "[6, 4]" in verdict.raw
    assert verdict.notes["model"] == "scripted"
    assert verdict.notes["prompts"] == "v1" and len(verdict.notes["prompts_hash"]) == 12


def test_the_images_arrive_without_loss_and_in_order():
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        one = attempt(instruction="write <edited> on {the} wall")
        asyncio.run(judge_at(endpoint.url).judge([one]))
        body = next(body for body in endpoint.asked if is_semantic(body))
        alone = next(body for body in endpoint.asked if not is_semantic(body))
    sent = [_open(part) for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    assert [picture.tobytes() for picture in sent] == [one.source.tobytes(), one.edited.tobytes()]
    words = [part["text"] for part in body["messages"][0]["content"] if part["type"] == "text"]
    assert "Editing instruction: write <edited> on {the} wall" in words[-1]
    shown = [_open(part) for part in alone["messages"][0]["content"] if part["type"] == "image_url"]
    assert [picture.tobytes() for picture in shown] == [one.edited.tobytes()]


def _open(part: dict) -> Image.Image:
    head, data = part["image_url"]["url"].split(",", 1)
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


BAD_ANSWERS = {
    "cut-off JSON": '{"reasoning": "The car is now',
    "cut-off inside the scores": '{"score": [7,',
    "prose": "A lovely image of a car.",
    "one score": '{"score": [7]}',
    "three scores": '{"score": [7, 8, 9]}',
    "eleven": '{"score": [11, 5]}',
    "minus one": '{"score": [-1, 5]}',
    "NaN": '{"score": [NaN, 5]}',
    "empty": "",
}


@pytest.mark.parametrize("question", ["semantic", "perceptual"])
@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_an_unusable_answer_is_a_status(answer, question):
    script = by_question(answer, GOOD) if question == "semantic" else by_question(GOOD, answer)
    verdict = verdict_of(script)
    assert verdict.status == "unusable"
    assert verdict.overall is None and verdict.edit_success is None and verdict.naturalness is None
    assert verdict.why.startswith(question)
    assert answer in verdict.raw


@pytest.mark.parametrize(
    ("reply", "status", "times"),
    [
        ((500, {"error": {"message": "broken"}}), "unreachable", 3),
        ((503, {"error": {"message": "busy"}}), "unreachable", 3),
        ((429, {"error": {"message": "slow down"}}), "unreachable", 3),
        ((401, {"error": {"message": "who are you"}}), "unreachable", 1),
        ((404, {"error": {"message": "no such model"}}), "unreachable", 1),
        ((400, {"error": {"message": "filtered"}}), "unusable", 1),
        ((422, {"error": {"message": "cannot judge that"}}), "unusable", 1),
        ((200, '{"choices": [{"mess'), "unusable", 1),
        ((200, {}), "unusable", 1),
        ((200, {"choices": []}), "unusable", 1),
        ((200, {"choices": [{"index": 0, "message": None}]}), "unusable", 1),
        ((200, {"choices": "x"}), "unusable", 1),
        ((200, "[1]"), "unusable", 1),
    ],
)
def test_http_troubles(reply, status, times):
    with serving(lambda body: reply) as endpoint:
        verdict = asyncio.run(judge_at(endpoint.url).judge([attempt()]))[0]
        asked = len(endpoint.asked)
    assert verdict.status == status and verdict.overall is None
    assert asked == 2 * times
    if reply[0] != 200:
        assert str(reply[0]) in verdict.why


@pytest.mark.parametrize("first", [429, 500, 503])
def test_trouble_that_passes_is_asked_again(first):
    seen: list[int] = []

    def script(body):
        seen.append(1)
        return (first, {"error": {"message": "later"}}) if len(seen) <= 2 else (200, completion(GOOD))

    assert verdict_of(script).ok
    assert len(seen) == 4


def test_refused_connection():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        judge = judge_at(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", retries=0, model="m")
        verdict = asyncio.run(judge.judge([attempt()]))[0]
        assert verdict.status == "unreachable" and verdict.overall is None
        with pytest.raises(VerifierError, match="not ready"):
            asyncio.run(judge.check())


@pytest.mark.parametrize("limit", [{"timeout": 0.2, "retries": 0}, {"deadline": 0.3, "timeout": 60}])
def test_hanging_endpoint(limit):
    with serving(lambda body: endpoint.closing.wait(120) and (200, completion(GOOD))) as endpoint:
        began = time.monotonic()
        verdict = asyncio.run(judge_at(endpoint.url, model="m", **limit).judge([attempt()]))[0]
        assert time.monotonic() - began < 60
    assert verdict.status == "unreachable" and "within" in verdict.why


def test_one_bad_attempt_leaves_the_others():
    def script(body):
        text = str(body["messages"][0]["content"])
        return 200, completion("no idea" if "edit 1" in text else GOOD)

    with serving(script) as endpoint:
        attempts = [
            attempt(0),
            attempt(1),
            attempt(2, edited=None),
            attempt(3, edited=None, finish_reason="length"),
            attempt(4),
        ]
        verdicts = asyncio.run(judge_at(endpoint.url).judge(attempts))
        assert len(endpoint.asked) == 6  # nothing is asked about edits that are not there
    assert [v.status for v in verdicts] == ["ok", "unusable", "undecodable", "unfinished", "ok"]


def test_no_more_at_once_than_allowed():
    def script(body):
        time.sleep(0.03)
        return 200, completion(GOOD)

    with serving(script) as endpoint:
        verdicts = asyncio.run(judge_at(endpoint.url, concurrency=3).judge([attempt(i) for i in range(6)]))
        assert all(v.ok for v in verdicts)
        assert endpoint.busiest == 3


def test_every_event_loop_may_ask():
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        judge = judge_at(endpoint.url)
        for _ in range(3):
            assert asyncio.run(judge.judge([attempt()]))[0].ok


def test_the_health_check_knows_the_models():
    def script(body):
        known = body["model"] in ("a", "b", "unlisted")
        return (200, completion("yes")) if known else (404, {"error": {"message": "no such model"}})

    with serving(script, models=("a", "b")) as endpoint:
        assert asyncio.run(check(judge_at(endpoint.url, model="b"))) == "b"
        with pytest.raises(VerifierError, match=r"'c' is not served.*a, b"):
            asyncio.run(judge_at(endpoint.url, model="c").check())
        with pytest.raises(VerifierError, match="no model was named"):
            asyncio.run(judge_at(endpoint.url).check())
        assert asyncio.run(judge_at(endpoint.url, model="unlisted").check()) == "unlisted"
        endpoint.asked.clear()
        assert asyncio.run(judge_at(endpoint.url).judge([attempt()]))[0].status == "unreachable"
        assert not endpoint.asked


def test_the_key_comes_from_the_named_variable_only(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "meant for another host")
    monkeypatch.setenv(KEY, "sesame")
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        asyncio.run(judge_at(endpoint.url).judge([attempt()]))
        asyncio.run(judge_at(endpoint.url, key_env=KEY).judge([attempt()]))
        sent = [headers.get("authorization") for headers in endpoint.headers]
    assert sent == [None] * 2 + ["Bearer sesame"] * 2
    monkeypatch.setenv(KEY, "")
    with pytest.raises(ConfigError, match=KEY):
        judge_at("http://127.0.0.1:9/v1", key_env=KEY)


def test_the_questions_of_one_edit_have_one_name():
    with serving(lambda body: (200, completion(GOOD))) as endpoint:
        asyncio.run(judge_at(endpoint.url, concurrency=1).judge([attempt(0), attempt(1)]))
        names = [headers["x-client-request-id"].split("-") for headers in endpoint.headers]
    assert sorted(kind for _, kind in names) == ["perceptual", "perceptual", "semantic", "semantic"]
    assert len({edit for edit, _ in names}) == 2


def test_settings_that_do_not_fit():
    for wrong in (
        {"url": "localhost:8000"},
        {"concurrency": 0},
        {"sequences": 3},
        {"deadline": 0},
        {"timeout": float("nan")},
        {"temperature": 3.0},
        {"retries": -1},
    ):
        with pytest.raises(ConfigError):
            JudgeSettings(**({"url": "http://x/v1"} | wrong))


def test_ground_compares_with_the_target():
    target = noise(3)
    with serving(by_question('{"score": [5, 6]}', '{"score": [7, 8]}')) as endpoint:
        ground = ReferenceVerifier(JudgeSettings(url=endpoint.url))
        assert isinstance(ground, Verifier)
        verdicts = asyncio.run(ground.judge([attempt(target=target), attempt()]))
        body = next(body for body in endpoint.asked if is_semantic(body))
        assert len(endpoint.asked) == 2
    sent = [_open(part) for part in body["messages"][0]["content"] if part["type"] == "image_url"]
    assert [picture.tobytes() for picture in sent] == [target.tobytes(), noise(2).tobytes()]
    assert (verdicts[0].edit_success, verdicts[0].over_editing, verdicts[0].artifacts) == (5, 6, 8)
    assert verdicts[1].status == "unusable" and "target" in verdicts[1].why
