"""The verifier that compares pixels with the target image."""

import asyncio

import numpy as np
import pytest
from PIL import Image

from earl.config import VerifierSettings
from earl.errors import ConfigError
from earl.records import Attempt, Verdict
from earl.verifiers.factory import make_verifier

GREY = np.full((32, 32, 3), 100, np.uint8)


def painted(level: int, around: int = 100) -> Image.Image:
    """A grey image with a square of another level in rows and columns 8 to 15."""
    pixels = np.full_like(GREY, around)
    pixels[8:16, 8:16] = level
    return Image.fromarray(pixels)


def judged(edited: Image.Image | None, target: Image.Image | None = None, **options: float) -> Verdict:
    verifier = make_verifier(VerifierSettings(kind="target", options=options))
    attempt = Attempt(Image.fromarray(GREY), "paint it", edited, target or painted(200))
    return asyncio.run(verifier.judge([attempt]))[0]


def test_the_target_is_right_and_the_source_is_nothing_done():
    right, untouched = judged(painted(200)), judged(Image.fromarray(GREY))
    assert (right.edit_success, right.over_editing, right.overall) == (10, 10, 10)
    assert (untouched.edit_success, untouched.over_editing, untouched.overall) == (0, 10, 0)


def test_half_of_the_change_is_half_of_the_success():
    half = judged(painted(150))
    # inside the region grown by 2 px only the square differs, so the errors' ratio is that of the square
    assert half.edit_success == pytest.approx(5) and half.over_editing == 10


def test_changes_outside_cost_in_proportion_to_levels():
    assert judged(painted(200, around=108)).over_editing == pytest.approx(10 * (1 - 8 / 32))
    assert judged(painted(200, around=108), levels=16).over_editing == pytest.approx(5)
    assert judged(painted(200, around=180)).over_editing == 0


def test_an_edit_that_asks_for_no_change_is_judged_by_what_is_kept():
    same = Image.fromarray(GREY)
    assert judged(same, target=same).overall == 10
    assert (
        judged(painted(255), target=same).edit_success == judged(painted(255), target=same).over_editing < 10
    )


def test_images_of_other_sizes_are_compared_at_the_edited_ones():
    large = painted(200).resize((64, 64), Image.Resampling.NEAREST)
    assert judged(large).overall > 9


def test_what_cannot_be_compared_is_a_status():
    verifier = make_verifier(VerifierSettings(kind="target"))
    alone = Attempt(Image.fromarray(GREY), "paint it", painted(200))
    (verdict,) = asyncio.run(verifier.judge([alone]))
    assert verdict.status == "unusable" and verdict.refused and "no target image" in verdict.reason
    assert judged(None).status == "undecodable"
    with pytest.raises(ConfigError, match="levels = 0"):
        make_verifier(VerifierSettings(kind="target", options={"levels": 0}))
