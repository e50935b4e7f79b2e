"""Ctrl-C and SIGTERM: a run ends after its step, with a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TypeVar

from earl.errors import Interrupted

T = TypeVar("T")
_LOOK = 0.2  # seconds between looks while waiting
_NAMES = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"}


class Interrupts:
    """Signals that this process has received. A second one ends it at once.

    Attributes:
        number: of the signal; None while none came.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    @property
    def asked(self) -> bool:
        return self.number is not None

    def error(self, where: str) -> Interrupted:
        """The error that ends the run; `where` says how far it came and how to go on."""
        number = self.number if self.number is not None else int(signal.SIGTERM)
        return Interrupted(f"stopped by {_NAMES.get(signal.Signals(number), 'a signal')} {where}", number)

    def check(self) -> None:
        """Raises Interrupted where a signal came."""
        if self.asked:
            raise self.error("in the middle of a step")

    def wait(self, future: Future[T]) -> T:
        """The future's result. Raises Interrupted where a signal comes first."""
        while True:
            try:
                return future.result(_LOOK)
            except NotYet:
                if future.done():  # the error is its own
                    return future.result()
            self.check()

    def sleep(self, seconds: float) -> None:
        """Sleep. Raises Interrupted where a signal comes first."""
        ends = monotonic() + seconds
        while (left := ends - monotonic()) > 0:
            self.check()
            sleep(min(left, _LOOK))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take note of signals inside the block; in other threads than the main one nothing changes."""

        def ask(number: int, _: object) -> None:
            if self.asked:
                raise self.error("at once; the same command goes on from the newest checkpoint")
            self.number = number

        try:
            previous = {number: signal.signal(number, ask) for number in _NAMES}
        except ValueError:  # not the main thread
            previous = {}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
