"""Sources that are no scenes of the world get a status; scenes never do, drawn or after the tokenizer.

    pytest -s -m long tests/world/verifier/test_not_scenes.py

prints the largest residual of 500 scenes and the smallest of 200 other images.
"""

from __future__ import annotations

import numpy as np
import pytest
from other_images import other_image
from PIL import Image

from earl.records import Attempt
from earl.vision.loading import load_vision_tokenizer
from earl.world.rendering import render
from earl.world.tasks import sample_task
from earl.world.verifier.perception import perceive
from earl.world.verifier.scene import NO_SCENE, SceneVerifier


def residual(pixels: np.ndarray) -> float:
    return float(np.abs(perceive(pixels).residual).mean())


@pytest.mark.parametrize(("scenes", "others"), [(24, 20), pytest.param(500, 200, marks=pytest.mark.long)])
def test_scenes_and_other_images_lie_far_apart(scenes: int, others: int) -> None:
    vision = load_vision_tokenizer("world")
    drawn = [render(sample_task(seed, "test").source, 64) for seed in range(scenes)]
    batches = [[Image.fromarray(pixels) for pixels in drawn[i : i + 16]] for i in range(0, scenes, 16)]
    decoded = [np.asarray(image) for batch in batches for image in vision.decode(vision.encode(batch))]
    most = {"drawn": max(map(residual, drawn)), "decoded": max(map(residual, decoded))}
    least = min(residual(other_image(number)) for number in range(others))
    print(f"{scenes} scenes: {most}; {others} other images: {least:.4f}; limit {NO_SCENE}")
    assert len(decoded) == scenes
    assert max(most.values()) < NO_SCENE / 1.5
    assert least > NO_SCENE * 1.1


@pytest.mark.parametrize("number", range(10))
def test_what_is_no_scene_is_not_judged(number: int) -> None:
    photograph = Image.fromarray(other_image(number, 128))
    attempt = Attempt(photograph, "make it a pencil drawing", photograph)
    verdict = SceneVerifier().judge_now([attempt])[0]
    assert (verdict.status, verdict.refused, verdict.overall) == ("unusable", True, None)
    assert verdict.why.startswith("cannot judge: the source is not a scene of the world")


def test_a_photograph_of_another_shape() -> None:
    attempt = Attempt(Image.new("RGB", (96, 64)), "make it a pencil drawing", Image.new("RGB", (96, 64)))
    verdict = SceneVerifier().judge_now([attempt])[0]
    assert (
        verdict.status == "unusable" and "not a scene of the world" in verdict.why and "96x64" in verdict.why
    )


def test_an_edited_image_that_is_no_scene_scores_nothing() -> None:
    """It is the policy's failure, and not a question that cannot be judged."""
    task = sample_task(0, "test")
    attempt = Attempt(
        Image.fromarray(render(task.source, 64)), task.instruction, Image.fromarray(other_image(1))
    )
    verdict = SceneVerifier().judge_now([attempt])[0]
    assert verdict.ok and verdict.overall == 0.0
