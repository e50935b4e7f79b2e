"""Verifier calls on an event loop of their own, while sampling goes on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future

from earl.records import Attempt, Verdict, VerdictStatus
from earl.training.interrupts import Interrupts
from earl.verifiers.protocol import Verifier, judge_each

RETRIED = ("unreachable", "unusable")
"""Statuses of verdicts that the verifier failed to give, not the policy: asking again may help."""


def shares_of_results(verdicts: Iterable[Verdict]) -> dict[str, list[float]]:
    """Outcomes as 0 or 1, of verdicts that tell what an edit did (the scene verifier's): `exact`;
    `untouched`, nothing was changed; `elsewhere`, something that was not to change, alone or as well."""
    outcomes = [verdict.outcome for verdict in verdicts if verdict.outcome]
    told = {
        "exact": [outcome == "exact" for outcome in outcomes],
        "untouched": [outcome == "untouched" for outcome in outcomes],
        "elsewhere": [outcome.endswith("elsewhere") for outcome in outcomes],
    }
    return {name: [float(one) for one in found] for name, found in told.items() if found}


class Judge:
    """Hands attempts to a verifier and gives futures of verdicts; never raises for a failed one.

    Args:
        deadline: seconds for one call; what is not answered by then is "unreachable".

    Attributes:
        interrupts: what ends a wait for verdicts early.
    """

    def __init__(self, deadline: float = 600.0) -> None:
        self._deadline = deadline
        self.interrupts = Interrupts()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="judge", daemon=True)
        self._thread.start()

    def submit(self, verifier: Verifier, attempts: Sequence[Attempt]) -> Future[list[Verdict]]:
        """Verdicts in the order of the attempts. An attempt that a bound ended is "unfinished", even with a
        whole image, as in EARL's release; one without an image is "undecodable". Neither is sent."""
        return asyncio.run_coroutine_threadsafe(self._judge(verifier, list(attempts)), self._loop)

    def wait(self, future: Future[list[Verdict]]) -> list[Verdict]:
        """The verdicts of `submit`. Raises Interrupted where a signal comes first."""
        return self.interrupts.wait(future)

    def close(self) -> None:
        """End the thread; what is still asked is given up."""
        self._loop.call_soon_threadsafe(self._end)
        self._thread.join(timeout=5)

    def _end(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        ended = asyncio.gather(*tasks, return_exceptions=True)
        ended.add_done_callback(lambda _: self._loop.stop())

    async def _judge(self, verifier: Verifier, attempts: list[Attempt]) -> list[Verdict]:
        failed = [_status(attempt) for attempt in attempts]
        sent = [attempt for attempt, status in zip(attempts, failed, strict=True) if status is None]
        try:
            answered = await asyncio.wait_for(judge_each(verifier, sent), self._deadline) if sent else []
        except asyncio.TimeoutError:
            answered = [Verdict("unreachable", why=f"no answer in {self._deadline:g} s")] * len(sent)
        found = iter(answered)
        return [next(found) if status is None else Verdict(status) for status in failed]


def _status(attempt: Attempt) -> VerdictStatus | None:
    """Status of an attempt that the verifier is not asked about; None of one that it is."""
    if attempt.finish_reason == "length":
        return "unfinished"
    return "undecodable" if attempt.edited is None else None
