"""How long the rest will take, from what finished work took; nothing is guessed where nothing was measured.

A cell's training leaves its seconds and steps in `cell.json`, its evaluation seconds in its scores.
Seconds are wall time of whole sessions that ended by themselves: loading, validation and saving
are in them, a session that was killed is not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from signal import SIGTERM, getsignal

LOOK = 0.5  # seconds between looks at the clock once the time is up


@dataclass(frozen=True, slots=True)
class Work:
    """So many units of one kind of work: steps of training, or tasks of the benchmark."""

    kind: str
    units: int
    unit: str = "step"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is left.

    Attributes:
        seconds: of the work whose kind was measured.
        rates: by kind, seconds a unit and the unit's name; only kinds that are counted.
        counted, unknown: names of jobs whose work was all measured before, and of the others.
    """

    seconds: float
    rates: dict[str, tuple[float, str]]
    counted: tuple[str, ...]
    unknown: tuple[str, ...]

    def lines(self) -> list[str]:
        """For people."""
        if not self.counted and not self.unknown:
            return []
        if not self.rates:
            return ["time: not known, no work of these kinds has been measured here yet"]
        rates = ", ".join(f"{kind} {rate:.3g} s a {unit}" for kind, (rate, unit) in self.rates.items())
        found = [f"time: about {duration(self.seconds)}, as measured here: {rates}"]
        if self.unknown:
            found.append(f"  not all counted, for want of a measure: {', '.join(self.unknown)}")
        return found


def forecast(measured: Iterable[tuple[Work, float]], left: Iterable[tuple[str, list[Work]]]) -> Forecast:
    """What the rest takes at the mean rate of the finished work of its kind.

    Args:
        measured: finished work and its seconds.
        left: by name of a job, its work.
    """
    sums: dict[str, list[float]] = {}
    for work, seconds in measured:
        total = sums.setdefault(work.kind, [0.0, 0.0])
        total[0] += seconds
        total[1] += work.units
    rates = {kind: seconds / units for kind, (seconds, units) in sums.items() if units}
    spent = 0.0
    used: dict[str, tuple[float, str]] = {}
    counted: list[str] = []
    unknown: list[str] = []
    for name, works in left:
        if works:
            (counted if all(work.kind in rates for work in works) else unknown).append(name)
        for work in works:
            if work.kind in rates:
                spent += rates[work.kind] * work.units
                used[work.kind] = (rates[work.kind], work.unit)
    return Forecast(spent, used, tuple(counted), tuple(unknown))


def duration(seconds: float) -> str:
    """ "3 h 05 min", "12 min", "40 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"


class TimeLimit:
    """A time after which no more work is begun and training is asked to end as by SIGTERM.

    Args:
        minutes: from now; None never ends.
    """

    def __init__(self, minutes: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = None if minutes is None else clock() + 60 * minutes

    @property
    def over(self) -> bool:
        return self._end is not None and self._clock() >= self._end

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within, training that outlives the limit ends after its step, with a checkpoint.

        A trainer answers SIGTERM by a handler of its own while it runs; that handler is called, again
        and again, so that one who is still loading hears it later. Without such a handler nothing is
        called: work that cannot be continued is finished.
        """
        if self._end is None:
            yield
            return
        before, done = getsignal(SIGTERM), threading.Event()

        def watch() -> None:
            while not done.wait(LOOK):
                handler = getsignal(SIGTERM)
                if self.over and callable(handler) and handler is not before:
                    handler(SIGTERM, None)

        thread = threading.Thread(target=watch, name="time limit", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
