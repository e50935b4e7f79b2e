"""Wrong edits made on purpose, for calibration: what a verifier must not reward.

Each maker takes a task and a random generator and returns pixels (side, side, 3) uint8, or None
where the task does not allow that mistake. Used by `calibration` and by tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from earl.world.goals import outcomes
from earl.world.rendering import render
from earl.world.sampling import choose, sample_object
from earl.world.scene import COLORS, SHAPES, Scene, SceneObject, anchor
from earl.world.tasks import WorldTask
from earl.world.verifier.canvas import HUELESS

Pixels = NDArray[np.uint8]
Maker = Callable[[WorldTask, np.random.Generator, int], "Pixels | None"]


def _drawn(task: WorldTask, scene: Scene | None, side: int) -> Pixels | None:
    """The image of a wrong scene; None if by chance it is a right one."""
    if scene is None or any(scene.content == o.content for o in outcomes(task.request, task.source)):
        return None
    return render(scene, side)


def _changed(task: WorldTask) -> list[SceneObject]:
    """The target's solids that the source does not have so."""
    old = {(o.place, o.kind) for o in task.source.objects}
    return [o for o in task.target.objects if (o.place, o.kind) not in old]


def _kept(task: WorldTask) -> list[SceneObject]:
    """The target's solids that the source has too."""
    changed = _changed(task)
    return [o for o in task.target.objects if o not in changed]


def nothing_done(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """The source as it was."""
    return _drawn(task, task.source, side)


def _other_color(obj: SceneObject, rng: np.random.Generator) -> SceneObject:
    return replace(obj, color=choose(rng, [c for c in COLORS if c != obj.color]))


def _other_shape(obj: SceneObject, rng: np.random.Generator) -> SceneObject:
    return replace(obj, shape=choose(rng, [s for s in SHAPES if s != obj.shape]), pose="upright")


def wrong_color(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """The added or changed solid gets another colour than it should."""
    changed = _changed(task)
    if not changed or task.target.style in HUELESS:
        return None
    obj = choose(rng, changed)
    return _drawn(task, task.target.swapped_for(obj, _other_color(obj, rng)), side)


def wrong_object(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """The added or changed solid gets another shape than it should."""
    changed = _changed(task)
    if not changed:
        return None
    obj = choose(rng, changed)
    if task.target.at(obj.row, obj.column, 1 - obj.level) is not None:
        return None
    return _drawn(task, task.target.swapped_for(obj, _other_shape(obj, rng)), side)


def wrong_count(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """One solid more or one less than there should be."""
    scene, free = task.target, list(task.target.free_places())
    if (rng.random() < 0.5 and free) or not scene.objects:
        model = choose(rng, scene.objects) if scene.objects else sample_object(rng, 0, 0)
        row, column = choose(rng, free)
        return _drawn(task, scene.with_object(replace(model.moved(column, row), pose="upright")), side)
    top = [o for o in scene.objects if o.level or scene.at(o.row, o.column, 1) is None]
    return _drawn(task, scene.without(choose(rng, top)), side)


def extra_damage(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """The edit is right, but a bystander changed colour, shape or size, or went away."""
    kept = [o for o in _kept(task) if o.level or task.target.at(o.row, o.column, 1) is None]
    if not kept:
        return None
    obj, turn = choose(rng, kept), int(rng.integers(4))
    if turn == 0 and task.target.style not in HUELESS:
        return _drawn(task, task.target.swapped_for(obj, _other_color(obj, rng)), side)
    if turn == 1:
        new = replace(obj, size="small" if obj.size == "large" else "large")
        return _drawn(task, task.target.swapped_for(obj, new), side)
    if turn == 2:
        return _drawn(task, task.target.swapped_for(obj, _other_shape(obj, rng)), side)
    return _drawn(task, task.target.without(obj), side)


def noise(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """The target under grain of 25 of 255."""
    pixels = render(task.target, side).astype(np.float32)
    return np.clip(pixels + rng.normal(0, 25, pixels.shape), 0, 255).astype(np.uint8)


def blank(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """One colour."""
    return np.broadcast_to(rng.integers(0, 256, 3).astype(np.uint8), (side, side, 3)).copy()


def shuffled(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """The target's 8 x 8 pixel patches in another order."""
    n = side // 8
    pixels = render(task.target, side)
    tiles = pixels.reshape(n, 8, n, 8, 3).swapaxes(1, 2).reshape(n * n, 8, 8, 3)
    tiles = tiles[rng.permutation(n * n)]
    return np.ascontiguousarray(tiles.reshape(n, n, 8, 8, 3).swapaxes(1, 2).reshape(side, side, 3))


def blob(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """The target with a disc of a foreign colour, an eighth to a sixth of the side across."""
    pixels = render(task.target, side)
    radius = rng.uniform(1 / 16, 1 / 12) * side
    x, y = rng.uniform(0.1, 0.9, 2) * side
    rows, columns = np.mgrid[0:side, 0:side] + 0.5
    inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
    under = pixels[inside].astype(int).mean(0)
    pixels[inside] = np.where(under > 127, under - 100, under + 100).astype(np.uint8)
    return pixels


def half_gone(task: WorldTask, rng: np.random.Generator, side: int) -> Pixels | None:
    """The target with half of one solid wiped away."""
    scene = task.target
    whole = [o for o in scene.objects if o.level == 0 and scene.at(o.row, o.column, 1) is None]
    if not whole:
        return None
    obj = choose(rng, whole)
    pixels, without = render(scene, side), render(scene.without(obj), side)
    middle = round(anchor(obj)[0] * side)
    apart = slice(0, middle) if rng.random() < 0.5 else slice(middle, side)
    pixels[:, apart] = without[:, apart]
    return pixels


MAKERS: dict[str, Maker] = {
    "no-op": nothing_done,
    "wrong colour": wrong_color,
    "wrong object": wrong_object,
    "wrong count": wrong_count,
    "extra damage": extra_damage,
    "noise": noise,
    "blank": blank,
    "shuffled": shuffled,
    "blob": blob,
    "half gone": half_gone,
}
