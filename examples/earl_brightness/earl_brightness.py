"""A verifier: whether the edited image is as bright as the instruction asks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from earl.records import Attempt, Verdict
from earl.verifiers.protocol import without_image


class Brightness:
    """Scores "brighter" and "darker"; 10 where the mean moved by `step` levels of 255 or more."""

    deterministic = True

    def __init__(self, step: float = 16.0) -> None:
        self.step = step

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        return [without_image(attempt) or self._score(attempt) for attempt in attempts]

    def _score(self, attempt: Attempt) -> Verdict:
        if not ("brighter" in attempt.instruction or "darker" in attempt.instruction):
            return Verdict("unusable", why="the instruction asks for neither brighter nor darker")
        moved = float(np.mean(attempt.edited) - np.mean(attempt.source))
        moved *= 1 if "brighter" in attempt.instruction else -1
        return Verdict("ok", min(10.0, max(0.0, 10 * moved / self.step)), 10.0, 10.0, 10.0)
