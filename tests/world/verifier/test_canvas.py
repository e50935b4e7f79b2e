"""What perception draws must be what the renderer draws."""

import numpy as np
import pytest

from earl.world.rendering import render
from earl.world.sampling import sample_scene
from earl.world.scene import STYLES
from earl.world.verifier.canvas import Solid, shared_canvas, soften
from earl.world.verifier.sprites import FORMS, form_of


@pytest.mark.parametrize("side", [64, 96])
@pytest.mark.parametrize("style", STYLES)
def test_composed_scene_is_close_to_the_rendered_one(style: str, side: int) -> None:
    rng = np.random.default_rng(7)
    for _ in range(3):
        scene = sample_scene(rng, style=style, stacks=0.5, posed=0.5)
        canvas = shared_canvas(side, scene.background, scene.style)
        drawn = canvas.compose([Solid.of(obj) for obj in scene.objects]).transpose(1, 2, 0)
        apart = np.abs(drawn - render(scene, side) / 255.0)
        # positions are rounded to a quarter of a pixel: only silhouettes may differ
        assert apart.mean() < 0.008
        assert (apart > 0.1).mean() < 0.02


def test_forms_cover_everything_the_world_can_draw() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        for obj in sample_scene(rng, stacks=0.5, posed=1.0).objects:
            assert Solid.of(obj).to_object() == obj
    assert len(FORMS) == 32 and form_of(obj) < 32


def test_soften_is_sixteen_times_a_binomial_blur() -> None:
    x = np.zeros((1, 5, 5), np.float32)
    x[0, 2, 2] = 1
    assert soften(x)[0].tolist() == [[1, 2, 1], [2, 4, 2], [1, 2, 1]]
