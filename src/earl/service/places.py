"""Places in a bounded queue, reserved before a request's body is read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from earl.config.service import ServerSettings
from earl.service.metrics import Metrics
from earl.service.wire import ApiError

_PACE = 0.2  # weight of the newest request in the moving average of seconds per place


class Places:
    """Admits requests up to a bound, and says 429 with the time to wait beyond it.

    Attributes:
        draining: the server is ending; what is held goes on, nothing new is admitted.
        failure: why nothing is admitted until a restart; None where nothing failed.
    """

    def __init__(self, settings: ServerSettings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._held = 0
        self._pace: float | None = None  # seconds for each place
        self._lock = threading.Lock()
        self.draining = False
        self.failure: str | None = None

    @property
    def ready(self) -> bool:
        """Whether new requests are accepted."""
        return not self.draining and self.failure is None

    @property
    def held(self) -> int:
        """Places that are taken."""
        return self._held

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """One place, given back at the end of the block.

        Raises:
            ApiError: 429 where the queue is full, 503 where the service stops or has failed.
        """
        reservation = Reservation(self)
        reservation.take(1)
        try:
            yield reservation
        finally:
            with self._lock:
                self._held -= reservation.count
                self._metrics.held.set(self._held)

    def take(self, count: int, held: int = 0) -> None:
        """Hold so many places in all, `held` of them held already. Raises ApiError 429 or 503."""
        with self._lock:
            if not self.ready:
                raise ApiError(
                    self.failure or "the service is stopping", 503, code="unavailable", retry_after=5
                )
            most = self._settings.max_queue
            if count > most:
                raise ApiError(
                    f"{count} images are more than the queue ever holds ({most})",
                    param="n",
                    code="too_many_images",
                )
            more = count - held
            if self._held + more > most:
                wait = (self._pace or 1.0) * (self._held + more - most)
                raise ApiError(
                    f"the queue is full ({self._held} of {most}); try again later",
                    429,
                    code="queue_full",
                    retry_after=min(wait, 120.0),
                )
            self._held += more
            self._metrics.held.set(self._held)

    def took(self, seconds: float) -> None:
        """Count how long one place was in use, for the time that others are told to wait."""
        self._pace = seconds if self._pace is None else (1 - _PACE) * self._pace + _PACE * seconds

    def drain(self) -> None:
        """Refuse new requests; those that are held go on."""
        self.draining = True


@dataclass
class Reservation:
    """Places that one request holds in the queue."""

    places: Places
    count: int = 0

    def take(self, count: int) -> None:
        """Hold so many places in all, at least as many as before. Raises ApiError 429 or 503."""
        if count > self.count:
            self.places.take(count, self.count)
            self.count = count
