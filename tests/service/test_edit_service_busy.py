"""The edit service with much to do: keys, queue, deadlines, callers that leave, signals."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest
from edit_session import ROWS, Inverter, client, png, serving

from earl.config.service import ServiceSettings
from earl.service import http
from earl.service.edits import EditService

try:  # the HTTP library that the installed client brings
    import httpx2 as httpx
except ImportError:
    import httpx


def test_keys():
    with serving(keys=("first", "second", "schlüssel")) as (_, url):
        for key in ("first", "second"):
            assert openai.OpenAI(base_url=url, api_key=key).models.list()
        sent = {"authorization": "Bearer schlüssel".encode()}  # as curl sends it
        assert httpx.get(f"{url}/models", headers=sent).status_code == 200
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=url, api_key="third", max_retries=0).images.edit(image=png(), prompt="x")
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=url, api_key="third", max_retries=0).models.list()


def test_a_full_queue_says_when_to_come_back_and_the_client_retries():
    session = Inverter(pause=0.05)
    with serving(session, settings={"max_queue": 2}) as (_, url):
        statuses = []

        def edit(n):
            answer = httpx.post(f"{url}/images/edits", data={"prompt": "x", "n": n}, files={"image": png()})
            statuses.append((answer.status_code, answer.headers.get("retry-after")))

        threads = [threading.Thread(target=edit, args=(n,)) for n in (2, 2, 1)]
        for thread in threads:
            thread.start()
            time.sleep(0.1)
        for thread in threads:
            thread.join()
        assert sorted(status for status, _ in statuses) == [200, 429, 429]
        assert all(int(after) >= 1 for status, after in statuses if status == 429)
        busy = threading.Thread(target=edit, args=(2,))
        busy.start()
        time.sleep(0.1)
        answer = client(url, max_retries=2).images.edit(image=png(), prompt="x")
        busy.join()
        assert len(answer.data) == 1
        answer = httpx.post(f"{url}/images/edits", data={"prompt": "x", "n": 3}, files={"image": png()})
        assert answer.status_code == 400 and answer.json()["error"]["param"] == "n"


def test_requests_join_those_in_progress():
    session = Inverter(pause=0.02)
    with serving(session) as (_, url):
        threads = [
            threading.Thread(target=lambda: client(url).images.edit(image=png(), prompt="x"))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.most == 4  # as many as there is room for
        assert session.steps < 8 * ROWS


@pytest.mark.parametrize("stream", ["false", "true"])
def test_work_stops_when_the_client_leaves(stream):
    session = Inverter(pause=0.1)
    with serving(session) as (service, url):
        with pytest.raises(httpx.TimeoutException), httpx.Client(timeout=0.3) as leaving:
            data = {"prompt": "x", "stream": stream}
            with leaving.stream("POST", f"{url}/images/edits", data=data, files={"image": png()}) as answer:
                answer.read()
        end = time.monotonic() + 2
        while session.running and time.monotonic() < end:
            time.sleep(0.02)
        assert not session.running and session.removed == 1
        time.sleep(0.2)
        assert service.metrics.running._value.get() == service.metrics.held._value.get() == 0
        assert client(url).images.edit(image=png(), prompt="x").data


def test_a_deadline_ends_a_request():
    session = Inverter(pause=0.1)
    with serving(session, settings={"deadline": 0.3}) as (_, url):
        answer = httpx.post(f"{url}/images/edits", data={"prompt": "x"}, files={"image": png()})
        assert answer.status_code == 504 and answer.json()["error"]["code"] == "deadline_exceeded"
        assert session.removed == 1


def wait_until(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def begun_upload(url):
    """A connection to a service that has sent the beginning of a body."""
    host, _, port = url.removeprefix("http://").removesuffix("/v1").partition(":")
    begun = socket.create_connection((host, int(port)), timeout=20)
    head = "POST /v1/images/edits HTTP/1.1", "Host: x", "Content-Type: application/json", "Content-Length: 9"
    begun.sendall("\r\n".join((*head, "", "{")).encode())
    return begun


def whole_answer(begun):
    """What the service sends until its JSON is closed or the connection is: head and body come apart."""
    answer = b""
    while not answer.endswith(b"}}") and (more := begun.recv(4096)):
        answer += more
    return answer


def test_a_body_that_stalls_frees_its_place_at_the_deadline():
    with serving(settings={"deadline": 0.5, "max_queue": 1}) as (service, url), begun_upload(url) as begun:
        wait_until(lambda: service.metrics.held._value.get())
        assert b'"code":"deadline_exceeded"' in whole_answer(begun)
        wait_until(lambda: not service.metrics.held._value.get())
        assert client(url).images.edit(image=png(), prompt="x").data


def test_what_is_cut_off_at_the_end_is_told_so(caplog):
    with serving() as (service, url):
        begun = begun_upload(url)
        wait_until(lambda: service.metrics.held._value.get())
    with begun:
        assert b"the service is stopping" in whole_answer(begun)
    assert not any(record.exc_info for record in caplog.records)


def test_an_error_in_the_stream_is_an_error_object():
    with (
        serving(Inverter(pause=0.1), settings={"deadline": 0.3}) as (_, url),
        pytest.raises(openai.APIError, match="longer than"),
    ):
        list(client(url).images.edit(image=png(), prompt="x", stream=True))


def test_after_a_mistake_of_ours_every_caller_is_told():
    with serving() as (_, url):
        answer = httpx.post(f"{url}/images/edits", data={"prompt": "crash"}, files={"image": png()})
        assert answer.status_code == 500 and "restart" in answer.json()["error"]["message"]
        assert httpx.get(url.removesuffix("/v1") + "/health").status_code == 500
        answer = httpx.post(f"{url}/images/edits", data={"prompt": "x"}, files={"image": png()})
        assert answer.status_code == 503 and answer.headers["retry-after"]


def test_a_request_whose_edit_fails_is_the_only_one_that_does():
    with serving(Inverter(pause=0.02)) as (_, url):

        def ask(prompt):
            return httpx.post(f"{url}/images/edits", data={"prompt": prompt}, files={"image": png()})

        with ThreadPoolExecutor(2) as pool:
            bad, good = pool.map(ask, ["diverge", "x"])
        assert bad.status_code == 500 and bad.json()["error"]["message"] == "the likelihoods are not numbers"
        assert good.status_code == 200 and ask("x").status_code == 200
        assert httpx.get(url.removesuffix("/v1") + "/health").status_code == 200


def test_sigterm_finishes_what_runs_and_refuses_the_rest_in_words():
    session, refused = Inverter(), threading.Event()
    step = session.step
    session.step = lambda **how: (refused.wait(60), step(**how))[1]
    service = EditService(session, "tiny", ServiceSettings())
    server = http._server(service.app(), drain=60, places=service.scheduler)
    taken, url = http._bind("127.0.0.1", 0)
    with taken, ThreadPoolExecutor(2) as pool:
        running = pool.submit(server.run, sockets=[taken])
        edited = pool.submit(lambda: client(url).images.edit(image=png(), prompt="x"))
        while not session.running:
            time.sleep(0.01)
        server.handle_exit(signal.SIGTERM, None)
        time.sleep(0.3)  # its loop has seen the signal
        answer = httpx.post(f"{url}/images/edits", data={"prompt": "x"}, files={"image": png()})
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "unavailable"
        assert httpx.get(url.removesuffix("/v1") + "/ready").status_code == 503
        refused.set()
        assert edited.result().data
        running.result(timeout=30)  # it ends by itself


def test_an_open_page_does_not_hold_the_server_up(monkeypatch):
    from starlette.responses import StreamingResponse

    async def heartbeats():
        while True:
            yield b": alive\n\n"
            await asyncio.sleep(0.1)

    monkeypatch.setattr(http, "_GRACE", 1)
    service = EditService(Inverter(), "tiny", ServiceSettings())
    app = service.app()
    app.add_route("/page", lambda _: StreamingResponse(heartbeats()))
    server = http._server(app, drain=3600, places=service.scheduler)
    taken, url = http._bind("127.0.0.1", 0)
    with taken, ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.run, sockets=[taken])
        with httpx.stream("GET", url.replace("/v1", "/page")) as page:
            next(page.iter_raw())
            server.handle_exit(signal.SIGINT, None)
            running.result(timeout=60)


def test_a_second_signal_closes_the_port_at_once():
    service = EditService(Inverter(), "tiny", ServiceSettings())
    server = http._server(service.app(), drain=60, places=service.scheduler)
    with service.scheduler.reserve():
        server.handle_exit(signal.SIGTERM, None)
        assert not server.should_exit
        server.handle_exit(signal.SIGINT, None)
        assert server.should_exit and server.force_exit
    service.scheduler.stop()
