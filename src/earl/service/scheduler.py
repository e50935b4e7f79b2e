"""The queue of the edit service and the thread that samples.

A place in the queue is reserved before a request's body is read, one for each image to draw. One thread
owns the pipeline: it lets waiting requests join at the next step, drops those whose callers left or whose
deadline passed, and hands back images. From 16 requests in progress on, requests join and results leave
only every few steps, several together, which takes less time per join. Callers live in the event loop.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from PIL import Image

from earl.config.service import ServiceSettings
from earl.errors import EarlError, InstructionError
from earl.pipeline import EditResult
from earl.service.edit_request import EditRequest
from earl.service.metrics import Metrics
from earl.service.places import Places
from earl.service.session import Session
from earl.service.wire import ApiError, too_late

_TOGETHER = 8  # requests that join together at most; in progress for each step between joins


@dataclass(frozen=True, slots=True)
class Partial:
    """An image in progress: its number, how many rows are sampled, and how it looks."""

    index: int
    rows: int
    image: Image.Image


@dataclass(eq=False)
class Job:
    """One request on its way."""

    request: EditRequest
    seeds: tuple[int, ...]
    deadline: float  # time.monotonic()
    loop: asyncio.AbstractEventLoop
    arrived: float
    done: asyncio.Future[EditResult]
    wanted: int  # partial images of each image
    partials: asyncio.Queue[Partial | None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    started: float | None = None
    first_row: float | None = None
    ticket: int | None = None

    def post(self, call: Callable[..., object], *values: object) -> None:
        """Call in the job's event loop; nothing where that is closed already."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(call, *values)


class Scheduler(Places):
    """Admits requests, samples them together, and hands back results.

    Args:
        session: what samples; used by the scheduler's thread alone.
        settings: queue, deadline, drain.
        metrics: figures to keep.
    """

    def __init__(self, session: Session, settings: ServiceSettings, metrics: Metrics) -> None:
        super().__init__(settings, metrics)
        self._session = session
        self._news = threading.Condition(self._lock)
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="earl-sampling", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether new requests are accepted."""
        return super().ready and self._thread.is_alive()

    def submit(self, request: EditRequest, seeds: tuple[int, ...], arrived: float, partials: int = 0) -> Job:
        """Queue a request whose places are held. Called in the event loop.

        Args:
            partials: how often each image is shown while it is sampled.
        """
        loop = asyncio.get_running_loop()
        job = Job(
            request,
            seeds,
            arrived + self._settings.deadline,
            loop,
            arrived,
            loop.create_future(),
            partials,
            asyncio.Queue(),
        )
        with self._news:
            self._waiting.append(job)
            self._metrics.waiting.set(len(self._waiting))
            self._news.notify()
        return job

    def cancel(self, job: Job) -> None:
        """The caller has left: the job's work ends at the next step."""
        job.cancelled.set()
        with self._news:
            self._news.notify()

    async def partials(self, job: Job) -> AsyncIterator[Partial]:
        """Images in progress, until the job ends."""
        while (partial := await job.partials.get()) is not None:
            yield partial

    def stop(self) -> None:
        """End the thread; what is unfinished fails with 503."""
        with self._news:
            self.draining = self._stopping = True
            self._news.notify()
        self._thread.join(30)

    def _work(self) -> None:
        steps = 0  # since requests last joined
        try:
            while True:
                with self._news:
                    while not (self._waiting or self._running or self._stopping):
                        self._news.wait()
                    if self._stopping:
                        break
                self._drop_lost()
                steps += 1
                turn = steps >= len(self._running) // _TOGETHER
                if turn:
                    self._start(self._joining())
                    steps = 0
                self._count()
                if self._running:
                    for ticket, result in self._session.step(hand_back=turn):
                        job = self._running.pop(ticket)
                        if isinstance(result, EarlError):  # of this request alone
                            self._refuse(job, ApiError(str(result), 500, code="edit_failed"))
                        else:
                            self._finish(job, result)
                self._count()
        except Exception as error:  # our own mistake: every caller is told, and new ones are refused
            self.failure = f"sampling failed ({type(error).__name__}); restart the service"
            self._end_all(ApiError(self.failure, 500, code="internal_error"))
            raise
        self._end_all(ApiError("the service is stopping", 503, code="unavailable", retry_after=5))

    def _joining(self) -> list[Job]:
        """Requests that wait and have room, in their order."""
        jobs: list[Job] = []
        with self._lock:
            while self._waiting and len(jobs) < _TOGETHER:
                if not self._session.has_room([job.request for job in (*jobs, self._waiting[0])]):
                    break
                jobs.append(self._waiting.popleft())
        return jobs

    def _count(self) -> None:
        self._metrics.running.set(len(self._running))
        self._metrics.waiting.set(len(self._waiting))

    def _drop_lost(self) -> None:
        """Take out jobs whose callers left or whose time is over."""
        now = time.monotonic()
        for ticket, job in list(self._running.items()):
            if job.cancelled.is_set() or now > job.deadline:
                self._session.remove(ticket)
                del self._running[ticket]
                self._lose(job)

    def _lose(self, job: Job) -> None:
        self._metrics.ended("abort" if job.cancelled.is_set() else "deadline")
        self._fail(job, too_late(self._settings.deadline))

    def _start(self, jobs: list[Job]) -> None:
        """Let requests join at the next step, but for those that are lost already."""
        now, joining = time.monotonic(), []
        for job in jobs:
            if job.cancelled.is_set() or now > job.deadline:
                self._lose(job)
                continue
            job.started = now
            self._metrics.queue_seconds.observe(now - job.arrived)
            joining.append(job)
        if not joining:
            return
        tickets = self._session.insert(
            [(job.request, job.seeds, functools.partial(self._row, job)) for job in joining]
        )
        for job, ticket in zip(joining, tickets, strict=True):
            if isinstance(ticket, EarlError):
                param = "prompt" if isinstance(ticket, InstructionError) else "image"
                self._refuse(job, ApiError(str(ticket), 400, param=param, code="invalid_request"))
            else:
                job.ticket = ticket
                self._running[ticket] = job

    def _row(self, job: Job, index: int, rows: int, show: Callable[[], Image.Image]) -> None:
        now = time.monotonic()
        if job.first_row is None:
            job.first_row = now
            self._metrics.first_seconds.observe(now - job.arrived)
        height = self._session.rows_of(job.ticket) if job.ticket is not None else 0
        if not job.wanted or rows >= height:
            return
        if rows * (job.wanted + 1) // height > (rows - 1) * (job.wanted + 1) // height:
            job.post(job.partials.put_nowait, Partial(index, rows, show()))

    def _finish(self, job: Job, result: EditResult) -> None:
        now = time.monotonic()
        seconds = now - (job.started or job.arrived)
        ids = sum(len(completion.ids) for completion in result.completions)
        self._metrics.request_seconds.observe(now - job.arrived)
        self._metrics.tokens.inc(ids)
        self._metrics.prompt_tokens.inc(sum(self._session.prompt_lengths(result)))
        if ids:
            self._metrics.token_seconds.observe(seconds * len(job.seeds) / ids)
        whole = all(completion.finish_reason == "stop" for completion in result.completions)
        self._metrics.ended("stop" if whole else "length")
        self.took(seconds / len(job.seeds))
        job.post(_settle, job, result, None)

    def _refuse(self, job: Job, error: ApiError) -> None:
        self._metrics.ended("error")
        self._fail(job, error)

    def _fail(self, job: Job, error: ApiError) -> None:
        job.post(_settle, job, None, error)

    def _end_all(self, error: ApiError) -> None:
        with self._lock:
            jobs = [*self._waiting, *self._running.values()]
            self._waiting.clear()
            self._running.clear()
        self._count()
        for job in jobs:
            self._fail(job, error)


def _settle(job: Job, result: EditResult | None, error: ApiError | None) -> None:
    job.partials.put_nowait(None)
    if job.done.done():
        return
    if error is not None:
        job.done.set_exception(error)
        job.done.exception()  # a caller that has left reads it no more
    else:
        assert result is not None
        job.done.set_result(result)
