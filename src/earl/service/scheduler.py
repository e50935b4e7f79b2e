"""The queue of the edit service and the thread that samples.

A place in the queue is reserved before a request's body is read, one for each image to draw. One thread
owns the pipeline: it lets waiting requests join at the next step, drops those whose callers left or whose
deadline passed, and hands back images. Callers live in the event loop.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from PIL import Image

from earl.config.service import ServiceSettings
from earl.errors import EarlError
from earl.pipeline import EditResult
from earl.service.edit_request import EditRequest
from earl.service.metrics import Metrics
from earl.service.session import Session
from earl.service.wire import ApiError

_PACE = 0.2  # weight of the newest request in the moving average of seconds per image


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


class Scheduler:
    """Admits requests, samples them together, and hands back results.

    Args:
        session: what samples; used by the scheduler's thread alone.
        settings: queue, deadline, drain.
        metrics: figures to keep.
    """

    def __init__(self, session: Session, settings: ServiceSettings, metrics: Metrics) -> None:
        self._session, self._settings, self._metrics = session, settings, metrics
        self._held = 0  # images reserved
        self._pace: float | None = None  # seconds per image
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._waiting: deque[Job] = deque()
        self._running: dict[int, Job] = {}
        self._stopping = False
        self.draining = False
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._work, name="earl-sampling", daemon=True)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether new requests are accepted."""
        return not self.draining and self.failure is None and self._thread.is_alive()

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """A place for one image, given back at the end of the block.

        Raises:
            ApiError: 429 where the queue is full, 503 where the service stops or has failed.
        """
        reservation = Reservation(self)
        reservation.take(1)
        try:
            yield reservation
        finally:
            self._give(reservation.images)

    def take(self, images: int, held: int = 0) -> None:
        """Hold places for so many images in all, `held` of them held already. Raises ApiError 429 or 503."""
        with self._lock:
            if not self.ready:
                raise ApiError(
                    self.failure or "the service is stopping", 503, code="unavailable", retry_after=5
                )
            if images > self._settings.max_queue:
                raise ApiError(
                    f"{images} images are more than the queue ever holds ({self._settings.max_queue})",
                    param="n",
                    code="too_many_images",
                )
            more = images - held
            if self._held + more > self._settings.max_queue:
                wait = (self._pace or 1.0) * (self._held + more - self._settings.max_queue)
                raise ApiError(
                    f"the queue is full ({self._held} of {self._settings.max_queue} images); try again later",
                    429,
                    code="queue_full",
                    retry_after=min(wait, 120.0),
                )
            self._held += more
            self._metrics.images_held.set(self._held)

    def _give(self, images: int) -> None:
        with self._lock:
            self._held -= images
            self._metrics.images_held.set(self._held)

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

    def drain(self) -> None:
        """Refuse new requests; those that are held go on."""
        self.draining = True

    def stop(self) -> None:
        """End the thread; what is unfinished fails with 503."""
        with self._news:
            self.draining = self._stopping = True
            self._news.notify()
        self._thread.join(30)

    def _work(self) -> None:
        try:
            while True:
                with self._news:
                    while not (self._waiting or self._running or self._stopping):
                        self._news.wait()
                    if self._stopping:
                        break
                self._drop_lost()
                while (job := self._next()) is not None:
                    self._start(job)
                self._count()
                if self._running:
                    for ticket, result in self._session.step():
                        self._finish(self._running.pop(ticket), result)
                self._count()
        except Exception as error:  # our own mistake: every caller is told, and new ones are refused
            self.failure = f"sampling failed ({type(error).__name__}); restart the service"
            self._end_all(ApiError(self.failure, 500, code="internal_error"))
            raise
        self._end_all(ApiError("the service is stopping", 503, code="unavailable", retry_after=5))

    def _next(self) -> Job | None:
        """The first request that waits, if there is room for its images."""
        with self._lock:
            if self._waiting and self._session.has_room(self._waiting[0].request):
                return self._waiting.popleft()
            return None

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
        seconds = f"{self._settings.deadline:g}"
        self._fail(job, ApiError(f"the request took longer than {seconds} s", 504, code="deadline_exceeded"))

    def _start(self, job: Job) -> None:
        now = time.monotonic()
        if job.cancelled.is_set() or now > job.deadline:
            self._lose(job)
            return
        job.started = now
        self._metrics.queue_seconds.observe(now - job.arrived)
        try:
            job.ticket = self._session.insert(
                job.request, job.seeds, lambda index, rows, show: self._row(job, index, rows, show)
            )
        except EarlError as error:
            self._metrics.ended("error")
            self._fail(job, ApiError(str(error), 400, param="image", code="invalid_request"))
            return
        self._running[job.ticket] = job

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
        if ids:
            self._metrics.token_seconds.observe(seconds * len(job.seeds) / ids)
        whole = all(completion.finish_reason == "stop" for completion in result.completions)
        self._metrics.ended("stop" if whole else "length")
        pace = seconds / len(job.seeds)
        self._pace = pace if self._pace is None else (1 - _PACE) * self._pace + _PACE * pace
        job.post(_settle, job, result, None)

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


@dataclass
class Reservation:
    """Places that one request holds in the queue."""

    scheduler: Scheduler
    images: int = 0

    def take(self, images: int) -> None:
        """Hold so many places in all, at least as many as before. Raises ApiError 429 or 503."""
        if images > self.images:
            self.scheduler.take(images, self.images)
            self.images = images


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
