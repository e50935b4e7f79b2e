"""Scenes and pictures: determinism, resolution, what is drawn where."""

from dataclasses import replace

import numpy as np
import pytest

from earl.world.rendering import render
from earl.world.sampling import sample_scene
from earl.world.scene import BACKGROUNDS, COLORS, SHAPES, STYLES, Scene, SceneObject
from earl.world.tasks import object_box


def test_same_seed_same_bytes():
    first = render(sample_scene(np.random.default_rng(5), stacks=1.0, posed=1.0), 64)
    second = render(sample_scene(np.random.default_rng(5), stacks=1.0, posed=1.0), 64)
    assert first.dtype == np.uint8 and first.shape == (64, 64, 3)
    assert np.array_equal(first, second)


def test_resolutions_show_the_same_image():
    scene = sample_scene(np.random.default_rng(1), count=4)
    small = render(scene, 64).astype(float)
    big = render(scene, 256).reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(small - big).mean() < 4


def test_every_scene_survives_its_json_form():
    rng = np.random.default_rng(2)
    for _ in range(50):
        scene = sample_scene(rng, stacks=0.5, posed=0.5)
        assert Scene.from_dict(scene.to_dict()) == scene


@pytest.mark.parametrize("shape", SHAPES)
def test_a_solid_changes_only_its_box(shape):
    empty = Scene("meadow", "day", ())
    for row in (0, 1):
        obj = SceneObject(shape, "red", 2, row)
        scene = empty.with_object(obj)
        differs = np.abs(render(scene, 64).astype(int) - render(empty, 64)).sum(-1) > 12
        box = object_box(obj, scene)
        rows, columns = np.nonzero(differs)
        assert differs.sum() > 60
        assert columns.min() >= box.left * 64 - 1 and columns.max() <= box.right * 64 + 1
        assert rows.min() >= box.top * 64 - 1 and rows.max() <= box.bottom * 64 + 1


def test_colors_backgrounds_and_styles_all_differ():
    base = Scene("meadow", "day", (SceneObject("sphere", "red", 1, 1),))
    pictures = [render(replace(base, style=s)) for s in STYLES]
    pictures += [render(replace(base, background=b)) for b in BACKGROUNDS[1:]]
    pictures += [
        render(base.swapped_for(base.objects[0], replace(base.objects[0], color=c))) for c in COLORS[1:]
    ]
    for i, first in enumerate(pictures):
        for second in pictures[i + 1 :]:
            assert np.abs(first.astype(int) - second).max() > 40


def test_no_two_solids_share_a_place():
    with pytest.raises(ValueError, match="share a place"):
        Scene("snow", "day", (SceneObject("cube", "red", 0, 0), SceneObject("cone", "blue", 0, 0)))


def test_what_stood_on_top_comes_down():
    below, top = SceneObject("cube", "red", 0, 1), SceneObject("sphere", "blue", 0, 1, level=1)
    left = Scene("snow", "day", (below, top)).without(below)
    assert [o.place for o in left.objects] == [(1, 0, 0)] and left.objects[0].shape == "sphere"


def test_too_small_a_image_is_refused():
    with pytest.raises(ValueError, match="at least 8 pixels"):
        render(Scene("snow", "day", ()), 4)
