"""The verifier protocol: attempts in, verdicts out; a failure is a status, never a guess."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from PIL.Image import Image

from earl.errors import EarlError, VerifierError
from earl.records import Attempt, Verdict


@runtime_checkable
class Verifier(Protocol):
    """Scores edits.

    A verifier whose verdict depends on the attempt alone may set `deterministic = True`, and is then asked
    once for equal attempts; one that computes in this process may set `uses_cores = True`.
    """

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """One verdict for each attempt, in their order; what failed has a status and no scores."""
        ...


@runtime_checkable
class Checkable(Protocol):
    """A verifier that can tell beforehand whether it will be able to judge."""

    async def check(self) -> str:
        """Description of the judge, in a few words. Raises VerifierError where none can be reached."""
        ...


@runtime_checkable
class Looking(Protocol):
    """A verifier that can judge an image's quality without knowing what it was edited from."""

    async def look(self, image: Image) -> Verdict:
        """Score one image by itself: naturalness and artifacts only."""
        ...


async def check(verifier: Verifier) -> str:
    """The health check before a long run: what will judge.

    Raises:
        VerifierError: it cannot judge now, and why.
    """
    if isinstance(verifier, Checkable):
        return await verifier.check()
    return type(verifier).__name__


async def judge_each(verifier: Verifier, attempts: Sequence[Attempt]) -> list[Verdict]:
    """Verdicts of all attempts; one that the verifier refuses does not cost the others theirs.

    Raises:
        VerifierError: it gave another number of verdicts than there are attempts.
    """
    try:
        verdicts = await verifier.judge(attempts)
    except VerifierError as error:
        return [Verdict("unreachable", why=str(error))] * len(attempts)
    except EarlError as error:
        if len(attempts) == 1:
            return [Verdict("unusable", why=str(error), refused=True)]
        return [verdict for attempt in attempts for verdict in await judge_each(verifier, [attempt])]
    if len(verdicts) != len(attempts):
        raise VerifierError(f"the verifier gave {len(verdicts)} verdicts for {len(attempts)} attempts")
    return verdicts


def without_image(attempt: Attempt) -> Verdict | None:
    """The verdict of an attempt that has no edited image to look at; None where there is one."""
    if attempt.edited is not None:
        return None
    return Verdict("unfinished" if attempt.finish_reason == "length" else "undecodable")
