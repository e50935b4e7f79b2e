"""Several vLLM servers as one `earl.sampling.Engine`: completions are shared out as servers become free.

A server that fails loses what it was asked to the others, and one that did not take the round's weights sits
the round out; both are asked again in the next. When nothing is left to share out, a completion that takes
much longer than the others is asked of an idle server as well, and the first answer counts.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from earl.config import SamplingSettings
from earl.errors import EngineError
from earl.policy.likelihood import policy_of
from earl.sampling.vllm.base import ServedVllm, VllmSample
from earl.sampling.vllm.server import VllmServer
from earl.sampling.vllm.weights import write_checkpoint
from earl.sequence.tokenizer import TextTokenizer

_SLOW = 3.0  # times the median of the round, after which an idle server is asked as well
_LOOK = 0.05  # seconds between looks of an idle server

Answer = tuple[list[int], list[float]]


class VllmServers(ServedVllm):
    """Samples completions from several vLLM servers.

    Args:
        urls: of the servers, as `VllmServer` takes one.
        policy, tokenizer, weights: as there; the folder is seen by all servers.
        max_batch: most samples asked for at once, of all servers together.

    Attributes:
        out: of the last call, why a server had no part in it or lost its part, by URL.
        shares: of the last call, completions by URL.

    Raises:
        EngineError: none of them can be reached.
    """

    def __init__(
        self,
        urls: Sequence[str],
        policy: Any,
        tokenizer: TextTokenizer,
        *,
        weights: str | Path | None = None,
        max_batch: int = 128,
    ) -> None:
        super().__init__(policy_of(policy).config, tokenizer, max_batch)
        self._policy = policy
        self.weights = Path(weights).absolute() if weights is not None else None
        self.servers = [
            VllmServer(url, policy, tokenizer, weights=weights, max_batch=max_batch, check=False)
            for url in urls
        ]
        self.out: dict[str, str] = {}
        self.shares: dict[str, int] = {}
        self._of_all(VllmServer.check)

    def refresh(self) -> None:
        """Let all servers read the policy's weights as they are now; one that does not sits the round out.

        Raises:
            EngineError: none of them did. OutputError: the folder cannot be written.
        """
        if self.weights is not None:
            write_checkpoint(self._policy, self.weights)
        self._of_all(VllmServer.take_weights if self.weights is not None else VllmServer.check)

    def _of_all(self, ask: Callable[[VllmServer], None]) -> None:
        """Ask every server at once; those that fail are out, until they are asked again."""
        self.out = {}

        def one(server: VllmServer) -> None:
            try:
                ask(server)
            except EngineError as error:
                self.out[server.url] = str(error)

        with ThreadPoolExecutor(len(self.servers)) as pool:
            list(pool.map(one, self.servers))
        if len(self.out) == len(self.servers):
            raise EngineError(
                f"none of {len(self.out)} vLLM servers is there: {'; '.join(self.out.values())}"
            )

    def _run(
        self, samples: Sequence[VllmSample], sampling: SamplingSettings
    ) -> Generator[VllmSample, None, None]:
        live = [server for server in self.servers if server.url not in self.out]
        self.shares = dict.fromkeys((server.url for server in live), 0)
        round_ = _Round(samples)
        each = max(1, self.max_batch // len(live))
        pool = ThreadPoolExecutor(len(live) * each)
        try:
            for server in live * each:  # in turn: few samples go to all servers, not to the first
                pool.submit(self._work, server, round_, sampling)
            for _ in samples:
                index, answer, url = round_.next_answer(each * len(live))
                if answer is None:
                    why = "; ".join(f"{name}: {reason}" for name, reason in self.out.items())
                    raise EngineError(f"every vLLM server failed in this round: {why}")
                self.shares[url] += 1
                samples[index].take(*answer)
                yield samples[index]
        finally:  # an answer that nobody needs any more is not waited for
            round_.close()
            pool.shutdown(wait=False, cancel_futures=True)

    def _work(self, server: VllmServer, round_: _Round, sampling: SamplingSettings) -> None:
        """One of a server's connections: takes samples until all are done, or the server fails."""
        try:
            while server.url not in self.out and (index := round_.take(server.url)) is not None:
                try:
                    answer = server.complete(round_.samples[index], sampling)
                except EngineError as error:
                    self.out[server.url] = str(error)
                    round_.give_back(index)
                    return
                round_.finish(index, answer, server.url)
        finally:
            round_.leave()


class _Round:
    """State of a round, shared by all connections: which samples wait, are asked for, are done."""

    def __init__(self, samples: Sequence[VllmSample]) -> None:
        self.samples = samples
        self._waiting = deque(range(len(samples)))
        self._asked: dict[int, tuple[float, set[str]]] = {}  # by sample: since when, of whom
        self._done: set[int] = set()
        self._seconds: list[float] = []
        self._closed, self._left = False, 0
        self._lock = threading.Lock()
        self._answers: SimpleQueue[tuple[int, Answer | None, str]] = SimpleQueue()

    def take(self, url: str) -> int | None:
        """The next sample for a server, waiting for one; None when there will be none."""
        while True:
            with self._lock:
                if self._closed or len(self._done) == len(self.samples):
                    return None
                index = self._waiting.popleft() if self._waiting else self._slow(url)
                if index is not None:
                    since, whom = self._asked.get(index, (time.monotonic(), set()))
                    self._asked[index] = (since, whom | {url})
                    return index
            time.sleep(_LOOK)

    def _slow(self, url: str) -> int | None:
        """A sample that another server has had for much longer than others took."""
        if not self._seconds:
            return None
        patience = _SLOW * statistics.median(self._seconds)
        for index, (since, whom) in self._asked.items():
            if len(whom) == 1 and url not in whom and time.monotonic() - since > patience:
                return index
        return None

    def give_back(self, index: int) -> None:
        with self._lock:
            if index not in self._done and index not in self._waiting:
                self._asked.pop(index, None)
                self._waiting.appendleft(index)

    def finish(self, index: int, answer: Answer, url: str) -> None:
        with self._lock:
            if index in self._done:
                return
            self._done.add(index)
            since, _ = self._asked.pop(index, (time.monotonic(), set()))
            self._seconds.append(time.monotonic() - since)
        self._answers.put((index, answer, url))

    def leave(self) -> None:
        """A connection has ended."""
        self._answers.put((-1, None, ""))

    def next_answer(self, connections: int) -> tuple[int, Answer | None, str]:
        """The next completion; without an answer when all connections have ended before it."""
        while True:
            index, answer, url = self._answers.get()
            if answer is not None:
                return index, answer, url
            self._left += 1
            if self._left == connections:
                return index, None, url

    def close(self) -> None:
        with self._lock:
            self._closed = True
