"""Random scenes: distributions of solids, places and styles.

Everything is drawn from a `numpy.random.Generator` that the caller seeds. `kinds="few"` keeps
to plain large solids of four shapes and colours, for the first part of a curriculum.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeVar

import numpy as np

from earl.world.scene import (
    BACKGROUNDS,
    COLORS,
    COLUMNS,
    FLAT_TOPPED,
    MAX_JITTER,
    OPENING,
    ROWS,
    SHAPES,
    TOPPLING,
    Scene,
    SceneObject,
)

T = TypeVar("T")
Kinds = Literal["full", "few"]
FEW_SHAPES = ("sphere", "cube", "cylinder", "cone")
FEW_COLORS = ("red", "yellow", "green", "blue")


def choose(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of a sequence, uniformly."""
    return options[int(rng.integers(len(options)))]


def sample_object(
    rng: np.random.Generator,
    row: int,
    column: int,
    *,
    kinds: Kinds = "full",
    level: int = 0,
    posed: bool = False,
) -> SceneObject:
    """One solid for a place. `posed` lets it also be toppled or open."""
    shape = choose(rng, SHAPES if kinds == "full" else FEW_SHAPES)
    color = choose(rng, COLORS if kinds == "full" else FEW_COLORS)
    size = "small" if kinds == "full" and rng.random() < 0.25 else "large"
    texture = "striped" if kinds == "full" and rng.random() < 0.15 else "plain"
    pose = "upright"
    if posed and level == 0 and rng.random() < 0.5:
        pose = "toppled" if shape in TOPPLING else "open" if shape in OPENING else "upright"
    dx, dy = (rng.uniform(-1, 1, 2) * MAX_JITTER).round(4) if level == 0 else (0.0, 0.0)
    return SceneObject(shape, color, column, row, size, texture, pose, level, float(dx), float(dy))


def sample_scene(
    rng: np.random.Generator,
    *,
    kinds: Kinds = "full",
    count: int | None = None,
    style: str | None = None,
    stacks: float = 0.0,
    posed: float = 0.0,
) -> Scene:
    """A scene of `count` solids (2 to 4 unless told), no two of the same kind.

    Args:
        rng: where all choices come from.
        kinds: "full", or "few" for plain large solids of four shapes and four colours.
        count: solids on the ground.
        style: a style of `STYLES`; by default day, or night one time in ten (not with "few").
        stacks: probability that one solid stands on another.
        posed: probability that toppled and open solids are allowed.
    """
    if count is None:
        count = int(rng.choice([2, 3, 4], p=[0.35, 0.40, 0.25]))
    if style is None:
        style = "night" if kinds == "full" and rng.random() < 0.1 else "day"
    places = [(r, c) for r in range(ROWS) for c in range(COLUMNS)]
    order = rng.permutation(len(places))
    may_pose = rng.random() < posed
    objects: list[SceneObject] = []
    for index in order[:count]:
        row, column = places[index]
        while True:
            obj = sample_object(rng, row, column, kinds=kinds, posed=may_pose)
            if all((o.shape, o.color) != (obj.shape, obj.color) for o in objects):
                objects.append(obj)
                break
    scene = Scene(choose(rng, BACKGROUNDS), style, tuple(objects))
    if rng.random() < stacks:
        scene = _stack_one(rng, scene, kinds)
    return scene


def can_carry(scene: Scene, obj: SceneObject) -> bool:
    """Whether another solid could be put on top of this one and be seen whole."""
    free_behind = obj.row == 0 or scene.at(0, obj.column) is None
    flat = obj.shape in FLAT_TOPPED and obj.pose == "upright"
    return flat and obj.level == 0 and scene.at(obj.row, obj.column, 1) is None and free_behind


def _stack_one(rng: np.random.Generator, scene: Scene, kinds: Kinds) -> Scene:
    carriers = [o for o in scene.objects if can_carry(scene, o)]
    if not carriers:
        return scene
    below = choose(rng, carriers)
    for _ in range(20):
        top = sample_object(rng, below.row, below.column, kinds=kinds, level=1)
        fits = below.size == "large" or top.size == "small"
        if fits and all((o.shape, o.color) != (top.shape, top.color) for o in scene.objects):
            return scene.with_object(top)
    return scene
