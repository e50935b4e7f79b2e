"""Scores of edits, good and bad."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from scene_images import as_image, like_a_tokenizer

from earl.records import Attempt
from earl.world.rendering import render
from earl.world.scene import Scene, SceneObject
from earl.world.verifier.scene import SceneVerifier, score, worst_square

RECOLOR = "make the red cube green"


def judge(source: Scene, instruction: str, edited: Scene | np.ndarray):
    pixels = render(edited, 64) if isinstance(edited, Scene) else edited
    attempt = Attempt(as_image(render(source, 64)), instruction, as_image(pixels))
    return SceneVerifier().judge_now([attempt])[0]


def recolored(yard: Scene) -> Scene:
    cube = next(o for o in yard.objects if o.shape == "cube")
    return yard.swapped_for(cube, replace(cube, color="green"))


def test_right_and_wrong_recolouring(yard: Scene) -> None:
    right = judge(yard, RECOLOR, recolored(yard))
    assert right.overall == 10.0 and right.exact is True and right.outcome == "exact"
    wrongs = {"untouched": yard, "also elsewhere": recolored(yard).without(yard.objects[0])}
    for result, wrong in wrongs.items():
        verdict = judge(yard, RECOLOR, wrong)
        assert verdict.outcome == result
        assert verdict.ok and verdict.overall <= 3.0 and verdict.exact is False


def test_a_source_of_the_same_bytes_in_another_shape_is_another_source(yard: Scene) -> None:
    pixels = render(yard, 64)
    edited = as_image(render(recolored(yard), 64))
    square, flat = (
        Attempt(as_image(shaped), RECOLOR, edited) for shaped in (pixels, pixels.reshape(32, 128, 3))
    )
    verdicts = SceneVerifier().judge_now([square, flat])
    assert verdicts[0].exact is True
    assert verdicts[1].status == "unusable" and "128x32" in verdicts[1].why


def test_any_free_place_counts_for_an_addition(yard: Scene) -> None:
    for row, column in ((0, 0), (1, 1), (0, 3)):
        added = yard.with_object(SceneObject("cylinder", "purple", column, row))
        assert judge(yard, "add a purple cylinder", added).exact is True
    twice = added.with_object(SceneObject("cylinder", "purple", 1, 0))
    assert judge(yard, "add a purple cylinder", twice).overall <= 3.0


def test_style_and_background(yard: Scene) -> None:
    assert judge(yard, "make it a pencil drawing", replace(yard, style="pencil")).overall >= 9.5
    assert judge(yard, "make it a pencil drawing", replace(yard, style="sepia")).overall <= 3.0
    snowy = replace(yard, background="snow")
    assert judge(yard, "change the background to a snowy field", snowy).overall >= 9.5
    assert judge(yard, "change the background to a snowy field", replace(snowy, style="night")).overall <= 3.0


def test_statuses() -> None:
    source = as_image(render(Scene("snow", "day", (SceneObject("cube", "red", 1, 1),)), 64))
    attempts = [Attempt(source, RECOLOR, None, finish_reason=r) for r in ("length", "stop")]
    verdicts = asyncio.run(SceneVerifier().judge(attempts))
    assert [v.status for v in verdicts] == ["unfinished", "undecodable"]
    assert verdicts[0].overall is None


def test_unfit_edited_image_scores_nothing_and_unfit_source_is_refused(yard: Scene) -> None:
    source, oblong = as_image(render(yard, 64)), as_image(render(yard, 64)[:, :48])
    verdict = SceneVerifier().judge_now([Attempt(source, RECOLOR, oblong)])[0]
    assert verdict.ok and verdict.overall == 0.0 and "square" in verdict.why
    assert verdict.outcome == "damaged"
    verdict = SceneVerifier().judge_now([Attempt(oblong, RECOLOR, source)])[0]
    assert verdict.status == "unusable" and verdict.refused
    assert "not a scene of the world" in verdict.why and "48x64" in verdict.why


def test_words_not_understood(yard: Scene) -> None:
    verdict = judge(yard, "please do something nice", yard)
    assert verdict.status == "unusable" and verdict.refused and "cannot judge" in verdict.why
    verdict = judge(yard, "remove the purple chest", yard)
    assert verdict.status == "unusable" and "purple chest" in verdict.why


def test_scores_stay_under_what_a_tokenizer_does(yard: Scene) -> None:
    pixels = like_a_tokenizer(render(recolored(yard), 64), np.random.default_rng(0))
    verdict = judge(yard, RECOLOR, pixels)
    assert verdict.exact is True
    assert verdict.naturalness >= 8.5 and verdict.artifacts >= 8.5 and verdict.overall >= 8.5


def test_curve_and_square() -> None:
    corners = ((0.1, 10.0), (0.2, 0.0))
    assert [score(m, corners) for m in (0.0, 0.15, 0.5)] == [10.0, pytest.approx(5.0), 0.0]
    apart = np.zeros((10, 10), np.float32)
    apart[4:6, 7:9] = 1
    assert worst_square(apart, 2) == pytest.approx(1.0)
    assert worst_square(apart, 4) == pytest.approx(0.25)
