"""The client of OpenAI-compatible servers: what it sends, what it takes, and every way in which it fails."""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import socket
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from urllib.parse import quote

import pytest

from earl.config import EndpointSettings
from earl.endpoints.client import Answer, ChatClient
from earl.errors import ConfigError, EndpointError, InvalidAnswerError

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving

KEY = "EARL_TEST_ENDPOINT_KEY"
SECRET = "sk-this-is-the-secret-key"
HELLO = [{"type": "text", "text": "hello"}]


def client(url: str, **settings) -> ChatClient:
    given = {"model": "scripted", "retries": 1, "timeout": 20.0, "deadline": 40.0} | settings
    return ChatClient(EndpointSettings(url=url, **given))


def ask(url: str, count: int = 1, **settings) -> list[Answer]:
    return asyncio.run(client(url, **settings).ask(HELLO, count=count))


def reply_of(message: object, finish: object = "stop") -> dict:
    return {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "yes"}, "yes"),
        ({"content": [{"type": "text", "text": "y"}, {"type": "text", "text": "es"}]}, "yes"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"text": "no"}]},
                    {"type": "text", "text": "yes"},
                ]
            },
            "yes",
        ),
        ({"content": None, "reasoning_content": "yes"}, "yes"),
        ({"content": "", "reasoning": "yes"}, "yes"),
        ({"content": "yes", "reasoning_content": "no"}, "yes"),
    ],
)
def test_where_the_text_of_an_answer_stands(message, text):
    with serving(lambda body: (200, reply_of(message))) as endpoint:
        assert ask(endpoint.url) == [Answer(text)]


@pytest.mark.parametrize(
    ("message", "finish", "problem"),
    [
        (
            {"content": None, "refusal": "I will not.\nNever."},
            "stop",
            "the model refused: I will not. Never.",
        ),
        ({"content": "yes", "refusal": "no"}, "stop", "the model refused: no"),
        ({"content": "yes", "refusal": [{"refusal": "no"}]}, "stop", "the model refused"),
        ({"content": "yes"}, "PROHIBITED_CONTENT", "content filter"),
        ({"content": "yes"}, "sensitive", "content filter"),
        ({"content": ""}, "content_filter", "content filter"),
        ({"content": "half of"}, "content_filter", "content filter"),
        ({"content": ""}, "length", "limit of 77 ids (max_tokens) was spent"),
        ({"content": None, "reasoning_content": "a thought"}, "length", "limit of 77 ids"),
        ({"content": None}, "stop", "the answer is empty"),
        ({"content": 7}, None, "the answer is empty"),
    ],
)
def test_answers_that_hold_no_text_say_why(message, finish, problem):
    with serving(lambda body: (200, reply_of(message, finish))) as endpoint:
        (answer,) = ask(endpoint.url, max_tokens=77)
    assert problem in answer.problem and answer.cut_off == (finish == "length")


@pytest.mark.parametrize(
    "body",
    [
        *({}, {"choices": []}, {"choices": "x"}, {"choices": [None]}, {"choices": [{"message": None}]}),
        *("[1]", "null", '"x"', "<html>hi</html>", "[" * 2000, '{"a":' * 5000, "9" * 5000, b"\xff\xfe"),
        {"error": {"message": "Provider returned error"}},
    ],
)
def test_replies_that_are_no_completion(body):
    with (
        serving(lambda _: (200, body)) as endpoint,
        pytest.raises(InvalidAnswerError, match="what came back"),
    ):
        ask(endpoint.url)


@pytest.mark.parametrize(
    "content",
    [["x"], 3, [{"token": "a"}], *([{"token": "a", "logprob": p}] for p in (math.nan, 10**400, "0"))],
)
def test_odd_log_probabilities_are_none(content):
    reply = reply_of({"content": "yes"})
    reply["choices"][0]["logprobs"] = {"content": content}
    with serving(lambda body: (200, reply)) as endpoint:
        assert ask(endpoint.url) == [Answer("yes")]


def test_a_limit_can_have_another_name_or_none():
    with serving(lambda body: (200, completion("yes"))) as endpoint:
        ask(endpoint.url)
        ask(endpoint.url, max_tokens=5, max_tokens_name="max_tokens")
        ask(endpoint.url, max_tokens=0)
        names = [[name for name in body if name.startswith("max_")] for body in endpoint.asked]
    assert names == [["max_completion_tokens"], ["max_tokens"], []]


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (422, {"detail": [{"loc": ["body", "max_completion_tokens"], "msg": "extra"}]}, "max_tokens_name"),
        (422, {"message": {"detail": "no such field"}}, "HTTP 422: no such field"),
        (404, {"detail": "Not Found"}, "HTTP 404: Not Found"),
        (402, {"error": "Insufficient credits"}, "HTTP 402: Insufficient credits"),
        (403, "<html><h1>Blocked</h1> by a\x1b[31m proxy</html>", "HTTP 403: Blocked by a\\x1b[31m proxy"),
        (404, b"", "HTTP 404: no reason given"),
        (404, "[" * 3000, "HTTP 404: [[["),
    ],
)
def test_reasons_are_kept(status, body, why):
    with serving(lambda _: (status, body)) as endpoint:
        with pytest.raises((EndpointError, InvalidAnswerError)) as caught:
            ask(endpoint.url)
        assert len(endpoint.asked) == 1
    assert why in str(caught.value) and getattr(caught.value, "refused", False) == (status == 422)
    assert len(str(caught.value)) < 500


@contextmanager
def flooding(head: bytes, chunk: bytes, pause: float = 0.0):
    """A server that never stops sending; gives its URL and a list of what was sent."""
    sent = [0]
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                try:
                    link.recv(1 << 16)
                    link.sendall(head)
                    while sent[0] < 1 << 30:
                        link.sendall(chunk)
                        sent[0] += len(chunk)
                        time.sleep(pause)
                except OSError:
                    link.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/v1", sent


def test_an_endless_body_is_cut_off():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    with flooding(head, b" " * 65536) as (url, sent):
        with pytest.raises(InvalidAnswerError, match="larger than 16 MiB"):
            ask(url)
        assert sent[0] < 64 << 20


def test_an_endless_trickle_ends_at_the_time_limit():
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    began = time.monotonic()
    with (
        flooding(head, b" ", 0.02) as (url, _),
        pytest.raises(EndpointError, match=r"no answer within 0\.5 s"),
    ):
        ask(url, timeout=0.5, retries=0)
    assert time.monotonic() - began < 10


def test_a_packed_body_is_bounded_unpacked():
    bomb = gzip.compress(bytes(100 << 20))
    packed = gzip.compress(json.dumps(completion("yes")).encode())
    sent = [(packed, "gzip"), (bomb, "gzip"), (packed[:20], "gzip"), (b"x" * 99, "gzip"), (b"x", "br")]
    replies = iter([(200, body, {"Content-Encoding": coding}) for body, coding in sent])
    with serving(lambda body: next(replies)) as endpoint:
        assert ask(endpoint.url) == [Answer("yes")]
        for why in ("larger", "not JSON", "unpacked", "'br'"):
            with pytest.raises(InvalidAnswerError, match=why):
                ask(endpoint.url)


def test_redirects_are_not_followed():
    with (
        serving(lambda body: (200, completion("yes"))) as other,
        serving(lambda body: (307, "", {"Location": f"{other.url}/chat/completions"})) as endpoint,
    ):
        with pytest.raises(EndpointError, match=f"HTTP 307: it redirects to {other.url}"):
            ask(endpoint.url)
        assert not other.asked


def test_only_what_is_set_is_sent(monkeypatch):
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID", "CUSTOM_HEADERS", "BASE_URL"):
        monkeypatch.setenv(f"OPENAI_{name}", "x-other: meant-for-another-host")
    with serving(lambda body: (200, completion("yes"))) as endpoint:
        ask(endpoint.url)
        sent = json.dumps(endpoint.headers[0])
    assert "another-host" not in sent and "authorization" not in sent and "openai" not in sent


def test_an_echoed_key_is_blacked_out(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    with serving(lambda body: (200, completion(f"the key is {SECRET}"))) as endpoint:
        assert ask(endpoint.url, key_env=KEY) == [Answer("the key is [key]")]
        assert endpoint.headers[0]["authorization"] == f"Bearer {SECRET}"
    for status, body in ((401, {"error": {"message": f"bad {SECRET}"}}), (200, {"error": f"bad {SECRET}"})):
        with serving(lambda _, s=status, b=body: (s, b), models=(f"for-{SECRET}",)) as endpoint:
            with pytest.raises((EndpointError, InvalidAnswerError), match=r"bad \[key\]"):
                ask(endpoint.url, key_env=KEY)
            with pytest.raises(EndpointError) as caught:
                asyncio.run(client(endpoint.url, key_env=KEY).check())
            assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "echo",
    [
        lambda key: f"bad {key[:-4]}****",  # cut, as many servers show keys
        lambda key: f"bad {key[:10]}\n{key[10:]}",
        lambda key: f"bad {quote(key, safe='')}",
    ],
)
def test_pieces_of_an_echoed_key_are_blacked_out(monkeypatch, echo):
    secret = "this-is/the+secret=key"
    monkeypatch.setenv(KEY, secret)
    with (
        serving(lambda body: (400, {"error": {"message": echo(secret)}})) as endpoint,
        pytest.raises(InvalidAnswerError, match=r"bad \[key\]") as caught,
    ):
        ask(endpoint.url, key_env=KEY)
    assert not any(secret[at : at + 8] in str(caught.value) for at in range(len(secret) - 7))


def test_an_echo_of_the_secrets_in_a_url_is_blacked_out():
    basic = b64encode(b"user:passphrase").decode()
    with serving(lambda body: (400, f"Basic {basic} passphrase /v1?key=query-secret")) as endpoint:
        url = endpoint.url.replace("://", "://user:passphrase@") + "?key=query-secret"
        with pytest.raises(InvalidAnswerError) as caught:
            ask(url)
        assert endpoint.headers[0]["authorization"] == f"Basic {basic}"
    assert str(caught.value).endswith("Basic [key] [key] /v1?key=[key]")


@pytest.mark.parametrize("finish", ["length", "model_length", "MAX_TOKENS", "abort", "error", 7])
def test_an_end_that_is_not_the_models_own_cuts_an_answer_off(finish):
    with serving(lambda body: (200, reply_of({"content": "yes"}, finish))) as endpoint:
        assert ask(endpoint.url) == [Answer("yes", cut_off=True)]


@pytest.mark.parametrize("variable", [SECRET, "sk-live", "EARL_NO_SUCH_KEY", "sk_live_0123456789"])
def test_a_key_in_place_of_its_variable_is_not_shown(variable):
    with pytest.raises(ConfigError) as caught:
        client("http://127.0.0.1:9/v1", key_env=variable)
    assert "key" in str(caught.value)
    assert variable.startswith("EARL") == (variable in str(caught.value))


def test_a_password_in_the_url_is_not_shown():
    with pytest.raises(EndpointError) as caught:
        asyncio.run(client("http://user:passphrase@127.0.0.1:9/v1?key=abc", retries=0).check())
    assert "http://127.0.0.1:9/v1 is not ready" in str(caught.value)
    assert "passphrase" not in str(caught.value) and "abc" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a b/v1", "http://x:99999999/v1"])
def test_odd_urls_are_one_sentence(url):
    with pytest.raises((ConfigError, EndpointError)):
        ask(url, retries=0, deadline=5.0)


@pytest.mark.parametrize(
    "models",
    [
        *((404, {}), (405, {}), (403, {"error": {"message": "another scope"}}), (501, "")),
        *(
            (200, {"data": None}),
            (200, "<html>hi</html>"),
            (200, "[]"),
            (200, {"data": [None, {"id": None}]}),
        ),
        (200, {"data": [{"id": "models/scripted"}]}),
    ],
)
def test_without_a_list_of_models_one_small_question_is_asked(models):
    def script(body):
        known = body["model"] == "scripted"
        return (200, completion("yes")) if known else (404, {"error": {"message": "no such model"}})

    with serving(script, models=models) as endpoint:
        assert asyncio.run(client(endpoint.url).check()) == "scripted"
        assert len(endpoint.asked) == 1
        with pytest.raises(EndpointError, match=r"'other' is not served at .*no such model"):
            asyncio.run(client(endpoint.url, model="other").check())


def test_a_server_that_knows_nothing_is_not_ready():
    for status, why in ((404, "ends in /v1"), (500, "not ready: HTTP 500")):
        with (
            serving(lambda body, s=status: (s, {}), models=(status, {})) as endpoint,
            pytest.raises(EndpointError, match=why),
        ):
            asyncio.run(client(endpoint.url.removesuffix("/v1")).check())


@pytest.mark.parametrize("header", [{"Retry-After-Ms": "400"}, {"Retry-After": "0.4", "Retry-After-Ms": "x"}])
def test_the_server_says_how_long_to_wait(header):
    seen: list[float] = []

    def script(body):
        seen.append(time.monotonic())
        return (429, {}, header) if len(seen) == 1 else (200, completion("yes"))

    with serving(script) as endpoint:
        ask(endpoint.url)
    assert 0.35 < seen[1] - seen[0] < 5


def test_a_server_may_ask_not_to_be_asked_again():
    with serving(lambda body: (503, {}, {"X-Should-Retry": "false"})) as endpoint:
        with pytest.raises(EndpointError, match="HTTP 503"):
            ask(endpoint.url, retries=5)
        assert len(endpoint.asked) == 1


def test_the_deadline_tells_the_last_trouble():
    with (
        serving(
            lambda body: (429, {"error": {"message": "slow down"}}, {"Retry-After-Ms": "60000"})
        ) as endpoint,
        pytest.raises(EndpointError, match=r"deadline of 0\.5 s \(HTTP 429: slow down\)"),
    ):
        ask(endpoint.url, deadline=0.5)
