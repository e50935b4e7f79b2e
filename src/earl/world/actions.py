"""Actions: a solid rolls, topples or opens, or all gather in a row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earl.world.language.request import Ref, Request
from earl.world.proposals import Proposal, covered, free_after, pick, relocated, swapped, unique
from earl.world.sampling import Kinds, choose
from earl.world.scene import COLUMNS, OPENING, TOPPLING, Scene


def topple(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A cylinder or cone falls over."""
    return _posed("topple", "toppled", TOPPLING, scene, rng)


def open_lid(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A chest opens."""
    return _posed("open", "open", OPENING, scene, rng)


def _posed(
    op: str, pose: str, shapes: frozenset[str], scene: Scene, rng: np.random.Generator
) -> Proposal | None:
    old = pick(scene, rng, lambda o: o.shape in shapes and o.pose == "upright" and o.level == 0)
    if old is None or covered(scene, old):
        return None
    return swapped(Request(op, ref=Ref.of(old)), scene, old, replace(old, pose=pose))


def roll(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A sphere rolls to the next place."""
    options = []
    for old in unique(scene):
        if old.shape == "sphere" and old.level == 0:
            for side, step in (("left", -1), ("right", 1)):
                if (old.row, old.column + step) in free_after(scene, old):
                    options.append((old, side, step))
    if not options:
        return None
    old, side, step = choose(rng, options)
    return relocated(Request("roll", ref=Ref.of(old), side=side), scene, old, old.row, old.column + step)


def gather(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """All solids stand in the front row, in the order they had."""
    if len(scene.objects) > COLUMNS or any(o.level for o in scene.objects):
        return None
    if len({o.row for o in scene.objects}) == 1:
        return None
    order = sorted(scene.objects, key=lambda o: (o.column, o.row))
    new = tuple(o.moved(i, 1) for i, o in enumerate(order))
    return Proposal(Request("gather"), replace(scene, objects=new), tuple(order), new)
