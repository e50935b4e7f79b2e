"""`earl serve` with the shipped model under load: correct or refused, flat memory, no work left behind.

Each figure is printed (`-s` shows them). Times are CPU seconds of the server, so that other work on the
machine does not count; everything runs on the cores that the test itself may use.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from earl.world.rendering import render
from earl.world.tasks import sample_task

pytestmark = pytest.mark.long
TICKS = os.sysconf("SC_CLK_TCK")
QUEUE = 48  # fewer than the requests that come at once, so that some are refused
DISTINCT = 8


class Server:
    """A server process: its address, CPU seconds, memory and figures."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process, self.url = process, url

    @property
    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def memory(self) -> int:
        """Resident bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def figures(self) -> dict[str, float]:
        text = httpx2.get(self.url.removesuffix("/v1") + "/metrics").text
        found = re.findall(r"^earl:(num_\w+)\{.*\} (\S+)$", text, re.M)
        return {name: float(value) for name, value in found}

    def settle(self, seconds: float = 20.0) -> dict[str, float]:
        """The figures once nothing is in progress, or after so long."""
        end = time.monotonic() + seconds
        while any((figures := self.figures()).values()) and time.monotonic() < end:
            time.sleep(0.05)
        return figures


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    command = [sys.executable, "-m", "earl", "serve", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen([*command, "--max-queue", str(QUEUE)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(process, re.search(r"http://\S+/v1", process.stdout.readline())[0])
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM, "it did not end as asked"


def bodies() -> list[bytes]:
    """JSON bodies of distinct edits of the world."""
    made = []
    for seed in range(DISTINCT):
        task, buffer = sample_task(seed, "test"), io.BytesIO()
        Image.fromarray(render(task.source, 64)).save(buffer, "PNG")
        url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        made.append(json.dumps({"image": url, "prompt": task.instruction, "seed": seed}).encode())
    return made


async def ask(client: httpx2.AsyncClient, body: bytes) -> tuple[int, str]:
    answer = await client.post("/images/edits", content=body, headers={"content-type": "application/json"})
    content = answer.json()
    return answer.status_code, content["data"][0]["b64_json"] if answer.status_code == 200 else ""


def ask_all(server: Server, count: int, together: int) -> list[tuple[int, int, str]]:
    """(which body, status, image) of so many requests, at most so many in flight."""
    asked = bodies()

    async def run() -> list[tuple[int, int, str]]:
        turn = asyncio.Semaphore(together)
        limits = httpx2.Limits(max_connections=together)
        async with httpx2.AsyncClient(base_url=server.url, timeout=600, limits=limits) as client:

            async def one(number: int) -> tuple[int, int, str]:
                async with turn:
                    return number % DISTINCT, *await ask(client, asked[number % DISTINCT])

            return await asyncio.gather(*map(one, range(count)))

    return asyncio.run(run())


@pytest.fixture(scope="module")
def alone(server) -> list[str]:
    """Each image as it comes where nobody else asks."""
    return [image for _, _, image in ask_all(server, DISTINCT, 1)]


def test_200_at_once_are_each_correct_or_refused_and_memory_stays(server, alone):
    memory = []
    for _ in range(9):
        answers = ask_all(server, 200, 200)
        assert all(image == alone[which] for which, status, image in answers if status == 200)
        statuses = Counter(status for _, status, _ in answers)
        assert set(statuses) <= {200, 429} and statuses[200] >= QUEUE
        assert not any(server.settle().values())
        memory.append(server.memory)
    print(f"\n200 at once: {dict(statuses)}; MiB after each round: {[size >> 20 for size in memory]}")
    assert max(memory) <= 1.4 * min(memory)  # the allocator's own steps are a fifth of it, up and down


def test_32_in_flight_against_one_at_a_time(server, alone):
    cost = {}
    for together, count in ((1, 24), (32, 160)):
        began, wall = server.cpu, time.monotonic()
        answers = ask_all(server, count, together)
        cost[together] = (server.cpu - began) / count, (time.monotonic() - wall) / count
        assert all((status, image) == (200, alone[which]) for which, status, image in answers)
    cpu, wall = (cost[1][kind] / cost[32][kind] for kind in (0, 1))
    print(f"\nCPU s an edit: one at a time {cost[1][0]:.3f}, 32 in flight {cost[32][0]:.3f}: {cpu:.2f}x")
    print(f"by the clock {wall:.2f}x")
    assert cpu > 1.5


def test_1000_requests_whose_clients_leave_at_any_moment(server, alone):
    rng, asked = random.Random(0), bodies()
    host, port = re.search(r"//(.+):(\d+)/", server.url).groups()

    async def leave(number: int) -> None:
        body = asked[number % DISTINCT]
        if number % 3 == 0:
            body = json.dumps({**json.loads(body), "stream": True, "partial_images": 3}).encode()
        reader, writer = await asyncio.open_connection(host, int(port))
        head = "POST /v1/images/edits HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        head += f"content-length: {len(body)}\r\n\r\n"
        sent = head.encode() + body
        if rng.random() < 0.2:  # in the middle of the request
            sent = sent[: rng.randrange(len(sent))]
        writer.write(sent)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(reader.read(rng.choice([1, 2**20])), rng.expovariate(1 / 0.4))
        if rng.random() < 0.5:
            writer.transport.abort()  # a reset
        writer.close()

    async def run() -> None:
        turn = asyncio.Semaphore(32)

        async def one(number: int) -> None:
            async with turn:
                with contextlib.suppress(ConnectionError, asyncio.TimeoutError):
                    await leave(number)

        await asyncio.gather(*map(one, range(1000)))

    began = time.monotonic()
    asyncio.run(run())
    left = time.monotonic()
    figures = server.settle()
    print(f"\n1,000 in {left - began:.0f} s; nothing left after {time.monotonic() - left:.2f} s: {figures}")
    assert figures and not any(figures.values())
    assert [image for _, _, image in ask_all(server, DISTINCT, DISTINCT)] == alone
