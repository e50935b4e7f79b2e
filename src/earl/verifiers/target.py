"""The verifier that compares pixels with the target image: no model, no endpoint.

It serves those who have pairs of images and no judge. It knows one right answer only, so an edit that does
what was asked in another way scores low; a judge sees that, this does not.

Axes: H W pixels, C colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.errors import ConfigError
from earl.records import Attempt, Verdict
from earl.verifiers.protocol import without_image
from earl.vision.compose import around

TOLERANCE = 16  # levels (0-255) up to which a pixel of source and target is unchanged
GROWN = 2  # px by which the changed region is grown, since edges are resampled
LEVELS = 32.0  # mean absolute error outside the change that scores 0


class TargetVerifier:
    """Scores an edit by its pixels, against source and target.

    - edit success: 10 x (1 - error / error of the source), both against the target inside the region that
      source and target differ in: 10 is the target, 0 is the untouched source or worse.
    - over-editing: 10 x (1 - mean absolute error against the source outside that region / `levels`).
    - naturalness and artifacts are 10: pixels alone do not tell.

    Images are compared at the size of the edited one. A tokenizer's own loss counts as error, so even a
    perfect edit has somewhat less than 10.

    Args:
        levels: mean absolute error (0-255) outside the change at which over-editing is 0; above 0.
    """

    deterministic = True
    uses_cores = True

    def __init__(self, levels: float = LEVELS) -> None:
        if not 0 < levels <= 255:
            raise ConfigError(f"levels = {levels!r}: expected a mean absolute error above 0, at most 255")
        self.levels = levels

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """One verdict each; "unusable" where an attempt has no target."""
        return [without_image(attempt) or self._one(attempt) for attempt in attempts]

    def _one(self, attempt: Attempt) -> Verdict:
        if attempt.target is None:
            why = "there is no target image to compare with; the verifier 'judge' needs none"
            return Verdict("unusable", why=why, refused=True)
        assert attempt.edited is not None
        size = attempt.edited.size
        source, edited, target = (_pixels(i, size) for i in (attempt.source, attempt.edited, attempt.target))
        changed = np.any(around(np.abs(source - target).max(2) > TOLERANCE, GROWN), axis=0)
        outside = np.abs(edited - source)[~changed]
        kept = 1 - float(outside.mean()) / self.levels if outside.size else 1.0
        if changed.any():
            asked = np.abs(source - target)[changed].mean()
            done = 1 - float(np.abs(edited - target)[changed].mean() / asked)
        else:  # nothing was to change
            done = kept
        scores = [10 * min(1.0, max(0.0, share)) for share in (done, kept)]
        return Verdict("ok", scores[0], scores[1], 10.0, 10.0)


def _pixels(image: Image.Image, size: tuple[int, int]) -> NDArray[np.float32]:
    if image.size != size:
        image = image.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image.convert("RGB"), np.float32)
