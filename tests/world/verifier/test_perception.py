"""Reading scenes off pixels."""

from dataclasses import replace

import numpy as np
import pytest
from scene_images import like_a_tokenizer

from earl.errors import ImageError
from earl.world.rendering import render
from earl.world.sampling import sample_scene
from earl.world.scene import STYLES, Scene, SceneObject
from earl.world.verifier.perception import perceive


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("worn", [False, True])
def test_random_scenes_are_read_exactly(style: str, worn: bool) -> None:
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(12):
        scene = sample_scene(rng, style=style, stacks=0.4, posed=0.5, count=int(rng.integers(1, 7)))
        pixels = render(scene, 64)
        if worn:
            pixels = like_a_tokenizer(pixels, rng)
        wrong += perceive(pixels, prior=scene).scene.content != scene.content
    assert wrong <= (1 if worn else 0)


@pytest.mark.parametrize("side", [48, 96, 128])
def test_other_resolutions(yard: Scene, side: int) -> None:
    seen = perceive(render(yard, side))
    assert seen.scene.content == yard.content
    assert seen.residual.shape == ((64, 64, 3) if side <= 80 else (96, 96, 3))


def test_empty_scene_and_positions(yard: Scene) -> None:
    assert perceive(render(Scene("snow", "night", ()), 64)).scene == Scene("snow", "night", ())
    for was, now in zip(yard.objects, perceive(render(yard, 64)).scene.objects, strict=True):
        assert abs(was.dx - now.dx) < 0.006 and abs(was.dy - now.dy) < 0.006


def test_prior_never_overrules_a_colour_that_can_be_seen(yard: Scene) -> None:
    liar = replace(yard, objects=tuple(replace(o, color="green") for o in yard.objects))
    assert perceive(render(yard, 64), prior=liar).scene.content == yard.content
    gray = replace(yard, style="sepia")
    colors = [o.color for o in perceive(render(gray, 64), prior=liar).scene.objects]
    by_place = {o.place: o.color for o in yard.objects}
    assert by_place[1, 3, 0] == "yellow" and "yellow" in colors  # light stays light in sepia


def test_prior_breaks_ties_where_hue_is_lost() -> None:
    for color in ("red", "green", "purple"):
        scene = Scene("desert", "sepia", (SceneObject("cube", color, 1, 1),))
        assert perceive(render(scene, 64), prior=scene).scene.content == scene.content


@pytest.mark.parametrize(("share", "sways"), [(0.55, True), (0.75, False)])
def test_prior_decides_between_colours_that_fit_about_equally(share: float, sways: bool) -> None:
    scenes = [Scene("meadow", "day", (SceneObject("sphere", color, 1, 1),)) for color in ("yellow", "orange")]
    mixed = sum(w * render(s, 64).astype(float) for w, s in zip((share, 1 - share), scenes, strict=True))
    pixels = np.rint(mixed).astype(np.uint8)
    colors = [perceive(pixels, prior=prior).scene.objects[0].color for prior in (None, *scenes)]
    assert colors == ["yellow", "yellow", "orange" if sways else "yellow"]


def test_half_a_solid_is_worn(yard: Scene) -> None:
    pixels = render(yard, 64)
    assert max(perceive(pixels).wear.values()) < 0.2
    cube = yard.objects[1]
    assert cube.shape == "cube"
    bare = render(yard.without(cube), 64)
    pixels[:, :8] = bare[:, :8]
    seen = perceive(pixels)
    assert seen.scene.content != yard.content or max(seen.wear.values()) > 0.4


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((64, 48, 3), np.uint8), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32)],
)
def test_other_arrays_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ImageError):
        perceive(pixels)
