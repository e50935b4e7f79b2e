"""Deduplication of a step's equal rollouts: decoded once, judged once.

A policy that copies its source, or has little entropy left, writes the same image several times in
a group. The results are those of the plain way, rollout by rollout (a test compares them).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from earl.records import Attempt, Verdict
from earl.verifiers.combined import WeightedSum
from earl.verifiers.protocol import Verifier, check


class DecodedImages:
    """Images of codes, each different grid decoded once for as long as this object lives.

    Args:
        vision: decodes; with `bf16` its `decode` must take that word (`VisionTokenizer`).
        bf16: decode under bfloat16 autocast.

    Attributes:
        decoded: grids that were decoded so far.
    """

    def __init__(self, vision: Any, *, bf16: bool = False) -> None:
        self._vision, self._options = vision, {"bf16": True} if bf16 else {}
        self._known: dict[tuple[tuple[int, ...], bytes], Image] = {}

    @property
    def decoded(self) -> int:
        return len(self._known)

    def of(self, codes: Sequence[NDArray[np.integer] | None]) -> list[Image | None]:
        """An image for each grid, None where there is none; equal grids share one image.

        The new grids are decoded together. Raises SequenceError as `VisionTokenizer.decode`.
        """
        keys = [None if grid is None else (grid.shape, grid.astype(np.int32).tobytes()) for grid in codes]
        new = {
            key: grid
            for key, grid in zip(keys, codes, strict=True)
            if key is not None and key not in self._known
        }
        if new:
            images = self._vision.decode(list(new.values()), **self._options)
            self._known.update(zip(new, images, strict=True))
        return [None if key is None else self._known[key] for key in keys]


class OnceEach:
    """A verifier that is shown each different attempt of a call once; equal ones get its one verdict.

    Only for verifiers whose verdict depends on nothing but the attempt (`is_repeatable`): a judge
    that samples its answers gives equal attempts different scores, and that noise is its own.
    """

    def __init__(self, verifier: Verifier) -> None:
        self.verifier = verifier

    async def check(self) -> str:
        """Description of the judge. Raises VerifierError where none can be reached."""
        return await check(self.verifier)

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts. Raises as the verifier inside."""
        keys = [_key(attempt) for attempt in attempts]
        different = dict(zip(keys, attempts, strict=True))
        verdicts = await self.verifier.judge(list(different.values()))
        if len(verdicts) != len(different):
            return verdicts  # the caller raises the error for a wrong count
        found = dict(zip(different, verdicts, strict=True))
        return [found[key] for key in keys]


def is_repeatable(verifier: Verifier) -> bool:
    """It gives equal attempts equal verdicts: verifiers that say so (`deterministic`), and sums of nothing
    else."""
    if isinstance(verifier, WeightedSum):
        return all(is_repeatable(part.verifier) for part in verifier.parts)
    return bool(getattr(verifier, "deterministic", False))


def once_each(verifier: Verifier) -> Verifier:
    """The verifier, asked once for equal attempts where that changes nothing."""
    return OnceEach(verifier) if is_repeatable(verifier) else verifier


def _key(attempt: Attempt) -> tuple[Any, ...]:
    images = (attempt.source, attempt.edited, attempt.target)
    seen = tuple(None if p is None else (p.mode, p.size, p.tobytes()) for p in images)
    return (attempt.instruction, attempt.finish_reason, attempt.key, *seen)
