"""The scene verifier as a weak multimodal judge would score: noise, ties, a bias per family, a liking for
unchanged images.

What such a judge gets wrong is not Gaussian. It uses few grades, so that many edits tie; it scores some kinds
of edit higher than others; all four scores of an edit share its impression; and an image that was left as it
was passes for a good edit more often than it should. `AGREEMENTS` says how much noise makes a judge agree
with the truth as well as published ones do with people; `earl verifier calibrate --weak` prints it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np

from earl.errors import ConfigError
from earl.records import SCORE_PARTS, Attempt, Verdict
from earl.world.verifier.scene import SceneVerifier

GRADES = (0.0, 3.0, 6.0, 8.0, 9.0)
"""The scores that weak judges give, of 0-10; each score is rounded to the nearest of them."""
TOWARDS, PULL = 7.0, 0.4  # where unsure judges end up, and how far every score is drawn there
FAMILY = 1.0  # points, standard deviation of the bias of a family of edits
UNCHANGED = 4.0  # points of success for an image that was left as it was
SHARED = 0.8  # share of the noise's variance that all four scores of an edit have in common
AGREEMENTS = {"0.40": 2.8, "0.53": 2.1}
"""Standard deviation of the noise, points, by Spearman's correlation of overall scores with the truth.
Against people on AURORA-Bench, 0.40 is Qwen2.5-VL-72B's overall score and 0.53 gpt-4o-mini's semantic score
(arXiv 2508.01119, tables 5 and 4)."""


class WeakJudge:
    """Judges the world's edits as `SceneVerifier`, and then as badly as `agreement` says.

    The same edit always gets the same scores. The verdict's notes have the true overall score, `unweakened`.

    Args:
        agreement: one of `AGREEMENTS`.
        seed: of noise and biases.

    Raises:
        ConfigError: no such agreement.
    """

    deterministic = True
    uses_cores = True

    def __init__(self, agreement: str | float = "0.40", seed: int = 0) -> None:
        name = agreement if isinstance(agreement, str) else f"{agreement:.2f}"
        if name not in AGREEMENTS:
            raise ConfigError(f"agreement = {agreement!r}: expected one of {', '.join(AGREEMENTS)}")
        self.agreement, self.seed, self.std = name, seed, AGREEMENTS[name]
        self._truth = SceneVerifier()

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts, computed in a worker thread."""
        return await asyncio.to_thread(self.judge_now, attempts)

    def judge_now(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts; failed ones stay as they are."""
        verdicts = self._truth.judge_now(attempts)
        return [self.weaken(a, v) if v.ok else v for a, v in zip(attempts, verdicts, strict=True)]

    def weaken(self, attempt: Attempt, verdict: Verdict) -> Verdict:
        """The weak judge's verdict on an edit that deserves this one."""
        rng = np.random.default_rng(seed_of(attempt, self.seed))
        shared, own = rng.normal(), rng.normal(size=len(SCORE_PARTS))
        noise = self.std * (np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own)
        bias = family_bias(attempt.family, self.seed)
        scores: dict[str, Any] = {}
        for part, extra in zip(SCORE_PARTS, noise, strict=True):
            true = verdict.score(part) or 0.0
            if part == "edit_success" and verdict.outcome == "untouched":
                true += UNCHANGED
            scores[part] = graded(true + PULL * (TOWARDS - true) + bias + float(extra))
        notes = {"unweakened": verdict.overall or 0.0, **verdict.notes}
        return replace(verdict, **scores, mean_overall=None, notes=notes)


def graded(score: float) -> float:
    """The nearest of `GRADES`; between two, the higher one."""
    return max(GRADES, key=lambda grade: (-abs(grade - score), grade))


def family_bias(family: str, seed: int) -> float:
    """Points (of 10) added to the scores of every edit of a family, drawn once; 0 for an empty family."""
    if not family:
        return 0.0
    digest = blake2b(f"{seed}\0{family}".encode(), digest_size=8).digest()
    return FAMILY * float(np.random.default_rng(int.from_bytes(digest, "big")).normal())


def seed_of(attempt: Attempt, seed: int) -> int:
    """A seed that the pixels and words of an edit decide, and `seed`."""
    digest = blake2b(f"{seed}\0{attempt.instruction}\0".encode(), digest_size=8)
    for image in (attempt.source, attempt.edited):
        if image is not None:
            digest.update(f"{image.size}".encode() + image.tobytes())
    return int.from_bytes(digest.digest(), "big")
