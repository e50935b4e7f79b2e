"""The scene verifier: scores of an edit from the pixels of both images and the instruction.

What was asked and what counts as done is `earl.world`'s (`language`, `goals`); what the images
show is `perception`'s. Here both meet, and what the edited image holds beyond the scene that it
shows becomes naturalness (everywhere a little) and artifacts (somewhere a lot). Scores follow the
VIEScore protocol: four of 0-10; a failed edit keeps at most 0.9 for what came near.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from earl.errors import ImageError, InstructionError
from earl.records import Attempt, Verdict
from earl.verifiers.protocol import without_image
from earl.world.goals import Outcome, check, outcomes
from earl.world.language.reading import parse
from earl.world.language.request import Request
from earl.world.scene import Scene
from earl.world.verifier.backdrop import window
from earl.world.verifier.canvas import soften
from earl.world.verifier.perception import Perception, perceive, to_working

Array = NDArray[np.float32]

# (measure, score) corners, straight lines between; measures are fractions of full scale.
# A clean image lies below the first corner, a good tokenizer's below the second.
NATURALNESS = ((0.016, 10.0), (0.032, 8.5), (0.060, 0.9), (0.090, 0.0))
ARTIFACTS = ((0.070, 10.0), (0.150, 8.5), (0.210, 0.9), (0.320, 0.0))
WEAR = ((0.25, 10.0), (0.35, 8.5), (0.50, 0.9), (1.0, 0.0))  # of a solid's worst half
UNTOUCHED = ((0.030, 10.0), (0.050, 8.5), (0.080, 0.9), (0.120, 0.0))
BLOB = 5 / 64  # side of the squares in which the worst residual is looked for, of the image's
CACHED_SOURCES = 512
NO_SCENE = 0.045  # mean residual of a source from which on it shows no scene; after the tokenizer up to 0.02
EXACT_LEAST = 5.0  # of 10: below that, in any part, an image is too damaged to be an exact edit


class SceneVerifier:
    """Judges edits of the world's images from pixels and words alone; the same input, the same verdict."""

    deterministic = True
    uses_cores = True

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts, computed in a worker thread."""
        return await asyncio.to_thread(self.judge_now, attempts)

    def judge_now(self, attempts: Sequence[Attempt]) -> list[Verdict]:
        """Verdicts in the order of the attempts.

        A source that is none of the world's images (a photograph, not square, too small), an instruction
        that the world does not understand, or one that speaks of something that its source does not show:
        the verdict is "unusable", refused for good, and says why.
        """
        return [self._judge_one(a) for a in attempts]

    async def look(self, image: Image) -> Verdict:
        """Naturalness and artifacts of an image of which nothing else is known. Raises ImageError."""
        return await asyncio.to_thread(_quality, image)

    def _judge_one(self, attempt: Attempt) -> Verdict:
        if (failed := without_image(attempt)) is not None:
            return failed
        assert attempt.edited is not None
        source_pixels, edited_pixels = _pixels(attempt.source), _pixels(attempt.edited)
        try:
            request = parse(attempt.instruction)
            source = _source(source_pixels.tobytes(), source_pixels.shape)
            if float(np.abs(source.residual).mean()) > NO_SCENE:
                raise ImageError("the source is not a scene of the world; take a judge, or `target`")
            expected = next(iter(outcomes(request, source.scene)), None)
            if expected is None:
                raise InstructionError("nothing in this image allows what is asked")
        except (ImageError, InstructionError) as problem:
            why = f"cannot judge: {problem}"
            return Verdict("unusable", why=why, refused=True)
        try:
            edited = perceive(edited_pixels, prior=expected)
        except ImageError as problem:
            why = f"scored 0, since the edited image is damaged: {problem}"
            return Verdict("ok", 0.0, 0.0, 0.0, 0.0, outcome="damaged", exact=False, why=why)
        return _verdict(request, source, edited, to_working(source_pixels), to_working(edited_pixels))


@lru_cache(maxsize=CACHED_SOURCES)
def _source(pixels: bytes, shape: tuple[int, ...]) -> Perception:
    """The source's scene; rollouts of one prompt share it."""
    return perceive(np.frombuffer(pixels, np.uint8).reshape(shape))


def _verdict(
    request: Request, source: Perception, edited: Perception, before: Array, after: Array
) -> Verdict:
    outcome: Outcome = check(request, source.scene, edited.scene)
    over_editing = outcome.over_editing
    if before.shape == after.shape:
        drift = untouched_difference(before, after, source.scene, edited.scene, outcome.expected)
        over_editing = min(over_editing, score(drift, UNTOUCHED))
    natural, unharmed, measures = _unharmed(edited)
    exact = outcome.exact and min(over_editing, natural, unharmed) >= EXACT_LEAST
    return Verdict(
        "ok",
        edit_success=outcome.edit_success,
        over_editing=over_editing,
        naturalness=natural,
        artifacts=unharmed,
        outcome="damaged" if outcome.exact and not exact else outcome.result,
        exact=exact,
        why=outcome.why,
        notes=measures,
    )


def _unharmed(seen: Perception) -> tuple[float, float, dict[str, float | str]]:
    """Naturalness, artifacts, and the measures behind them."""
    everywhere, somewhere = residual_measures(seen.residual)
    wear = max(seen.wear.values(), default=0.0)
    artifacts = min(score(somewhere, ARTIFACTS), score(wear, WEAR))
    measures: dict[str, float | str] = {
        "residual": round(everywhere, 4),
        "worst_blob": round(somewhere, 4),
        "wear": round(wear, 4),
    }
    return score(everywhere, NATURALNESS), artifacts, measures


def _quality(image: Image) -> Verdict:
    naturalness, artifacts, measures = _unharmed(perceive(_pixels(image)))
    why = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in measures.items())
    return Verdict("ok", naturalness=naturalness, artifacts=artifacts, why=why, notes=measures)


def score(measure: float, corners: Sequence[tuple[float, float]]) -> float:
    """A penalty curve: straight lines between corners, flat outside them."""
    xs, ys = zip(*corners, strict=True)
    return float(np.interp(measure, xs, ys))


def residual_measures(residual_SSC: Array) -> tuple[float, float]:
    """Residual of an image beyond its scene, as a share of full scale: the mean, and the worst square's.

    The worst square's is taken after a slight blur, so that the grain of a tokenizer counts
    everywhere and not somewhere.
    """
    apart = np.abs(residual_SSC)
    everywhere = float(apart.mean())
    soft = np.abs(soften(residual_SSC.transpose(2, 0, 1))).mean(0) * np.float32(1 / 16)
    return everywhere, worst_square(soft, max(2, round(BLOB * residual_SSC.shape[0])))


def worst_square(apart_HW: Array, side: int) -> float:
    """The largest mean over all squares of a side."""
    sums = np.zeros((apart_HW.shape[0] + 1, apart_HW.shape[1] + 1), np.float64)
    sums[1:, 1:] = apart_HW.cumsum(0).cumsum(1)
    boxes = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    return float(boxes.max() / side**2)


def untouched_difference(before: Array, after: Array, source: Scene, edited: Scene, expected: Scene) -> float:
    """Mean difference of the pixels that the edit had no reason to touch; 0 for edits of the whole image.

    Args:
        before, after: float32 (3, S, S), source and edited image.
        source, edited: the scenes seen in them.
        expected: the scene that should have come out.
    """
    if (source.background, source.style) != (expected.background, expected.style):
        return 0.0
    side = before.shape[1]
    free = np.ones((side, side), bool)
    for scene in (edited, expected):
        places = {o.place for o in source.objects} | {o.place for o in scene.objects}
        for row, column, level in places:
            was, now = source.at(row, column, level), scene.at(row, column, level)
            if was is None or now is None or was.kind != now.kind:
                patch = window(side, row, column)
                if level:
                    patch = replace(patch, top=max(0, patch.top - round(0.2 * side)))
                free[patch.top : patch.bottom, patch.left : patch.right] = False
    if not free.any():
        return 0.0
    apart = np.zeros((side, side), np.float32)
    apart[1:-1, 1:-1] = np.abs(soften(after - before)).mean(0) * np.float32(1 / 16)
    return float(apart[free].mean())


def _pixels(image: Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB"))
