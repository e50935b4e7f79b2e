"""A verifier behind the chat API: the way over HTTP changes no score, and nothing bad gets an answer."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from earl.config import JudgeSettings
from earl.config.service import ServerSettings
from earl.endpoints.message import data_url
from earl.errors import VerifierError
from earl.records import Attempt, Verdict
from earl.verifiers.judge import JudgeVerifier
from earl.world.rendering import render
from earl.world.tasks import sample_task
from earl.world.verifier.scene import SceneVerifier

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")
from earl.service.http import served
from earl.service.limits import Room
from earl.service.verifier import VerifierService
from earl.service.wire import ApiError

PARTS = ("edit_success", "over_editing", "naturalness", "artifacts", "overall")


def world_attempts(count: int) -> list[Attempt]:
    """Per task the right edit, the untouched source, and the right edit with damage."""
    rng = np.random.default_rng(0)
    attempts = []
    for seed in range(count):
        task = sample_task(seed, "test")
        source, target = render(task.source, 64), render(task.target, 64)
        damaged = target.copy()
        damaged[20:32, 20:32] = rng.integers(0, 256, (12, 12, 3))
        for edited in (target, source, damaged):
            attempts.append(Attempt(Image.fromarray(source), task.instruction, Image.fromarray(edited)))
    return attempts


class Counting:
    """A verifier that remembers what it was given and says the same of all."""

    def __init__(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self.seen: list[Attempt] = []

    async def judge(self, attempts):
        self.seen += attempts
        return [self.verdict] * len(attempts)


IMAGE = Image.new("RGB", (64, 64), "red")
GOOD = Verdict("ok", 1.25, 2, 3, 4, why="because")


def judge_at(url: str, **settings) -> JudgeVerifier:
    return JudgeVerifier(
        JudgeSettings(url=url, **({"retries": 0, "timeout": 150, "deadline": 300} | settings))
    )


def test_the_way_over_http_changes_no_score():
    attempts = world_attempts(2)
    attempts += [
        Attempt(attempts[0].source, "remove the chair that is not there", attempts[0].source),
        Attempt(attempts[0].source, attempts[0].instruction, None),
        Attempt(attempts[0].source, attempts[0].instruction, None, finish_reason="length"),
    ]
    with served(VerifierService(SceneVerifier()).app()) as url:
        over_http = asyncio.run(judge_at(url).judge(attempts))
    direct = SceneVerifier().judge_now([a for a in attempts if "chair" not in a.instruction])
    direct.insert(6, Verdict("unusable"))
    for here, there in zip(direct, over_http, strict=True):
        assert here.status == there.status
        assert [getattr(here, part) for part in PARTS] == [getattr(there, part) for part in PARTS]
    scores = {verdict.overall for verdict in over_http if verdict.ok}
    assert len(scores) > 2 and max(scores) > 9.5  # there was something to tell apart


@pytest.mark.parametrize(
    "options", [{"swap": True}, {"samples": 3, "temperature": 0.5}, {"structured": True}]
)
def test_the_options_change_no_score_either(options):
    attempts = [Attempt(IMAGE, "x", IMAGE.rotate(90))]
    with served(VerifierService(Counting(GOOD)).app()) as url:
        verdict = asyncio.run(judge_at(url, **options).judge(attempts))[0]
    assert [getattr(verdict, part) for part in PARTS[:4]] == [1.25, 2, 3, 4]


def test_an_edit_is_judged_once_for_all_its_questions():
    verifier = Counting(GOOD)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8))
    attempt = Attempt(picture, "say <edited>: {x}\nand instruction: y", picture.rotate(180))
    with served(VerifierService(verifier).app()) as url:
        verdict = asyncio.run(judge_at(url, swap=True).judge([attempt]))[0]
    assert len(verifier.seen) == 1
    assert verifier.seen[0].instruction == attempt.instruction
    assert verifier.seen[0].source.tobytes() == picture.tobytes()
    assert verifier.seen[0].edited.tobytes() == attempt.edited.tobytes()
    assert [getattr(verdict, part) for part in PARTS[:4]] == [1.25, 2, 3, 4]
    assert "because" in verdict.raw


@pytest.mark.parametrize(
    ("status", "seen"),
    [("unusable", "unusable"), ("unreachable", "unreachable"), ("undecodable", "unusable")],
)
def test_a_failed_verdict_is_no_score_over_http_either(status, seen):
    verifier = Counting(Verdict(status, why="no idea"))
    with served(VerifierService(verifier).app()) as url:
        verdict = asyncio.run(judge_at(url).judge([Attempt(IMAGE, "x", IMAGE)]))[0]
    assert verdict.status == seen and verdict.overall is None
    assert "no idea" in verdict.why


def test_a_judge_can_stand_behind_it():
    with (
        served(VerifierService(SceneVerifier()).app()) as scene_url,
        served(VerifierService(judge_at(scene_url), name="proxy").app()) as url,
    ):
        attempts = world_attempts(1)[2:]
        verdicts = asyncio.run(judge_at(url, model="proxy").judge(attempts))
        alone = asyncio.run(judge_at(url, model="proxy").look(attempts[0].edited))
    direct = SceneVerifier().judge_now(attempts)
    assert [v.overall for v in verdicts] == [v.overall for v in direct]
    assert alone.naturalness == direct[0].naturalness and alone.edit_success is None


def ask(url: str, content, key: str = "", **more) -> tuple[int, dict]:
    """A question as another client would ask it."""
    body = {"model": "earl-scene", "messages": [{"role": "user", "content": content}]} | more
    data = content if isinstance(content, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/chat/completions", data, headers), timeout=150
        ) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def scores_in(reply: dict) -> list[float]:
    return json.loads(reply["choices"][0]["message"]["content"])["score"]


def shown(image: Image.Image) -> dict:
    return {"type": "image_url", "image_url": {"url": data_url(image)}}


def words(text: str) -> dict:
    return {"type": "text", "text": text}


def test_other_peoples_clients():
    attempt = world_attempts(1)[2]
    direct = SceneVerifier().judge_now([attempt])[0]
    text = f"RULES\nTwo images will be given.\n\nEditing instruction: {attempt.instruction}"
    with served(VerifierService(SceneVerifier()).app()) as url:
        status, pair = ask(url, [words(text), shown(attempt.source), shown(attempt.edited)], n=2)
        _, alone = ask(url, [words("How natural is it?"), shown(attempt.edited)])
    assert status == 200 and len(pair["choices"]) == 2
    assert scores_in(pair) == [direct.edit_success, direct.over_editing]
    assert scores_in(alone) == [direct.naturalness, direct.artifacts]


@pytest.mark.parametrize(
    ("content", "more", "status", "what"),
    [
        (b"{", {}, 400, "JSON"),
        ("just words", {}, 400, "0 images"),
        ([shown(IMAGE)] * 3, {}, 400, "3 images"),
        ([shown(IMAGE)] * 2, {}, 400, "instruction"),
        ([words("instruction: do magic")] + [shown(IMAGE)] * 2, {}, 422, "magic"),
        ([shown(Image.new("RGB", (64, 40)))], {}, 422, "square"),
        ([{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}], {}, 400, "fetched"),
        ([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}], {}, 400, "fetched"),
        (
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}],
            {},
            400,
            "not valid base64",
        ),
        (
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}],
            {},
            400,
            "not an image that can be read",
        ),
        (
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,äöü"}}],
            {},
            400,
            "not valid base64",
        ),
        ([{"type": "audio"}], {}, 400, "messages"),
        ([shown(IMAGE)], {"stream": True}, 400, "stream"),
        ([shown(IMAGE)], {"n": 0}, 400, "n:"),
        ([shown(IMAGE)], {"model": "gpt"}, 404, "earl-scene"),
    ],
)
def test_requests_that_get_no_answer(content, more, status, what, scene_url):
    given, reply = ask(scene_url, content, **more)
    assert given == status
    assert what in reply["error"]["message"]


@pytest.fixture(scope="module")
def scene_url():
    with served(VerifierService(SceneVerifier()).app()) as url:
        yield url


def test_a_verifier_that_cannot_judge_one_image_says_so():
    with served(VerifierService(Counting(GOOD)).app()) as url:
        status, reply = ask(url, [shown(IMAGE)])
    assert status == 422 and "source and edited" in reply["error"]["message"]


def test_a_large_request_is_refused():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    with served(VerifierService(SceneVerifier(), settings=ServerSettings(max_bytes=1000)).app()) as url:
        status, _ = ask(url, [shown(noise)])
    assert status == 413


def test_pixels_and_text_are_bounded_before_anything_is_decoded(scene_url):
    wide = io.BytesIO()
    Image.new("1", (9999, 9999)).save(wide, "PNG")  # 12 kB, 300 MB once decoded
    url = "data:image/png;base64," + base64.b64encode(wide.getvalue()).decode()
    status, reply = ask(scene_url, [{"type": "image_url", "image_url": {"url": url}}])
    assert (status, reply["error"]["code"]) == (400, "image_too_large")
    long = [words("Editing instruction: " + "x" * 40_000), shown(IMAGE), shown(IMAGE)]
    status, reply = ask(scene_url, long)
    assert (
        status == 400 and len(reply["error"]["message"]) < 200 and "characters" in reply["error"]["message"]
    )
    status, reply = ask(
        scene_url, [words("Editing instruction: " + "x" * 20_000), shown(IMAGE), shown(IMAGE)]
    )
    assert status == 422 and len(reply["error"]["message"]) <= 500


def test_images_that_are_held_at_once_are_bounded():
    room = Room(max_pixels=1000)
    with room.holding() as first, room.holding() as second:
        first(40_000)  # one alone may be larger than all
        with pytest.raises(ApiError, match="as many images") as refused:
            second(1)
        assert refused.value.status == 429 and refused.value.retry_after
    with room.holding() as third:
        third(20_000)
    assert room.held == 0

    class Slow(Counting):
        async def judge(self, attempts):
            await asyncio.sleep(0.5)
            return await super().judge(attempts)

    async def all_at_once(url):
        question = [words("Editing instruction: x"), shown(IMAGE), shown(IMAGE)]
        return await asyncio.gather(*(asyncio.to_thread(ask, url, question) for _ in range(6)))

    # 64 x 64 pixels, of which this many are held: two requests of two images and of some bytes
    with served(VerifierService(Slow(GOOD), settings=ServerSettings(max_pixels=4096)).app()) as url:
        statuses = [status for status, _ in asyncio.run(all_at_once(url))]
        assert {200, 429} == set(statuses)
        assert ask(url, [words("Editing instruction: x"), shown(IMAGE), shown(IMAGE)])[0] == 200


def test_a_client_that_leaves_writes_no_traceback(capfd):
    body = json.dumps({"model": "earl-scene", "messages": []}).encode()
    with served(VerifierService(Counting(GOOD)).app()) as url:
        port = int(url.split(":")[2].split("/")[0])
        for size in (10, len(body)):  # in the middle of the request, and before the answer
            with socket.create_connection(("127.0.0.1", port)) as client:
                head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
                client.sendall(head.encode() + body[:size])
        assert ask(url, [shown(IMAGE)])[0] == 422  # still there
    assert "Traceback" not in "".join(capfd.readouterr())


def test_the_key_is_asked_for():
    question = [words("instruction: x"), shown(IMAGE), shown(IMAGE)]
    with served(VerifierService(Counting(GOOD), keys=["sesame"]).app()) as url:
        assert ask(url, question)[0] == 401
        assert ask(url, question, key="wrong")[0] == 401
        assert ask(url, question, key="sesame")[0] == 200
        with pytest.raises(VerifierError, match="401"):
            asyncio.run(judge_at(url).check())


class Held(Counting):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__(GOOD)
        self.may = threading.Event()

    async def judge(self, attempts):
        await asyncio.to_thread(self.may.wait, 60)
        return await super().judge(attempts)


def figure(url: str, name: str) -> float:
    with urllib.request.urlopen(url.removesuffix("/v1") + "/metrics") as reply:
        return float(re.search(rf"^earl:{name}\{{.*\}} (\S+)$", reply.read().decode(), re.M)[1])


def test_a_full_queue_refuses_and_a_server_that_ends_finishes_what_runs():
    """The queue, figures and routes of `earl serve`."""
    verifier = Held()
    service = VerifierService(verifier, settings=ServerSettings(max_queue=1))
    question = [words("instruction: x"), shown(IMAGE), shown(IMAGE)]
    with served(service.app()) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(ask, url, question)
        while not figure(url, "num_requests_running"):
            time.sleep(0.01)
        status, reply = ask(url, question)
        assert (status, reply["error"]["code"]) == (429, "queue_full")
        service.places.drain()
        status, reply = ask(url, question)
        assert (status, reply["error"]["code"]) == (503, "unavailable")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(url.removesuffix("/v1") + "/ready")
        verifier.may.set()
        assert first.result()[0] == 200
        assert figure(url, "num_requests_running") == figure(url, "num_images_held") == 0
        with urllib.request.urlopen(f"{url}/models/earl-scene") as reply:
            assert json.load(reply)["id"] == "earl-scene" and reply.headers["x-request-id"]


def test_a_question_past_the_deadline():
    verifier = Held()
    service = VerifierService(verifier, settings=ServerSettings(deadline=0.5))
    with served(service.app()) as url:
        status, reply = ask(url, [words("instruction: x"), shown(IMAGE), shown(IMAGE)])
        assert (status, reply["error"]["code"]) == (504, "deadline_exceeded")
        assert figure(url, "num_images_held") == 0
        verifier.may.set()


def test_the_models_are_listed():
    with served(VerifierService(SceneVerifier(), name="other").app()) as url:
        assert asyncio.run(judge_at(url).check()) == "other"


def test_a_taken_port_is_a_sentence():
    app = VerifierService(SceneVerifier()).app()
    with served(app) as url:
        port = int(url.split(":")[2].split("/")[0])
        with pytest.raises(VerifierError, match=f"port {port}"), served(app, port=port):
            pass


def test_images_travel_without_loss():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (33, 17, 3), np.uint8))
    back = Image.open(io.BytesIO(base64.b64decode(data_url(noise).split(",")[1])))
    assert back.tobytes() == noise.tobytes() and back.format == "PNG"
