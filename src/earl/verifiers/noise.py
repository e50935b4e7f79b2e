"""Noise and masking wrappers for verifier ablations.

EARL (arXiv 2508.01119) found that a 7B judge in place of a 72B one makes RL worse than SFT; these weaken
any verifier in two measured ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np

from earl.errors import ConfigError
from earl.records import SCORE_PARTS, Attempt, Verdict
from earl.verifiers.protocol import Verifier, check


class Noisy:
    """Adds Gaussian noise to each of the four scores, cut to 0-10 (so the mean shifts at both ends).

    The same edit always gets the same noise: it depends on the pixels, the words and the seed, as a
    judge's error at temperature 0 does, so a resumed run equals an uninterrupted one.

    Args:
        std: points, of the noise before it is cut.

    Raises:
        ConfigError: std is negative or not finite.
    """

    def __init__(self, verifier: Verifier, std: float, *, seed: int = 0) -> None:
        if not 0 <= std < float("inf"):
            raise ConfigError(f"noise of a verifier is {std}; expected points of 0 and up")
        self.verifier, self.std, self.seed = verifier, std, seed

    async def check(self) -> str:
        """What will judge. Raises VerifierError where nothing will."""
        return f"{await check(self.verifier)} with noise of {self.std:g} points"

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts; failed ones stay as they are."""
        verdicts = await self.verifier.judge(attempts)
        return [self._shaken(a, v) if v.ok else v for a, v in zip(attempts, verdicts, strict=True)]

    def _shaken(self, attempt: Attempt, verdict: Verdict) -> Verdict:
        noise = np.random.default_rng(seed_of(attempt, self.seed)).normal(0.0, self.std, len(SCORE_PARTS))
        scores: dict[str, Any] = {
            part: float(np.clip(getattr(verdict, part) + extra, 0.0, 10.0))
            for part, extra in zip(SCORE_PARTS, noise, strict=True)
        }
        return _rescored(verdict, scores)


def seed_of(attempt: Attempt, seed: int) -> int:
    """A seed that the pixels and words of an edit decide, and `seed`."""
    digest = blake2b(f"{seed}\0{attempt.instruction}\0".encode(), digest_size=8)
    for image in (attempt.source, attempt.edited):
        if image is not None:
            digest.update(f"{image.size}".encode() + image.tobytes())
    return int.from_bytes(digest.digest(), "big")


class Blind:
    """Masks one of the four scores: it is always 10, so the other of its pair decides.

    Raises:
        ConfigError: no such part.
    """

    def __init__(self, verifier: Verifier, part: str) -> None:
        if part not in SCORE_PARTS:
            raise ConfigError(f"a verifier has no score {part!r}; there are {', '.join(SCORE_PARTS)}")
        self.verifier, self.part = verifier, part

    async def check(self) -> str:
        """What will judge. Raises VerifierError where nothing will."""
        return f"{await check(self.verifier)}, blind to {self.part}"

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts; failed ones stay as they are."""
        verdicts = await self.verifier.judge(attempts)
        return [_rescored(v, {self.part: 10.0}) if v.ok else v for v in verdicts]


def _rescored(verdict: Verdict, scores: dict[str, Any]) -> Verdict:
    """The verdict with other scores; its notes say what the overall score was before."""
    assert verdict.overall is not None, "a verdict that is ok has its scores"
    return replace(
        verdict, **scores, mean_overall=None, notes={"unweakened": verdict.overall, **verdict.notes}
    )
