"""Spatial edits: a solid moves beside, between or onto others, or two change places."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earl.world.language.request import Ref, Request
from earl.world.proposals import Proposal, covered, free_after, relocated, unique
from earl.world.sampling import Kinds, can_carry, choose
from earl.world.scene import Scene


def move(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A solid goes beside another one."""
    options = []
    for old in unique(scene):
        for other in unique(scene):
            if old == other or other.level or covered(scene, old):
                continue
            for side, step in (("left", -1), ("right", 1)):
                beside = old.row == other.row and old.level == 0 and (old.column - other.column) * step > 0
                place = (other.row, other.column + step)
                if place in free_after(scene, old) and not beside:
                    options.append((old, other, side, place))
    if not options:
        return None
    old, other, side, place = choose(rng, options)
    return relocated(Request("move", ref=Ref.of(old), ref2=Ref.of(other), side=side), scene, old, *place)


def swap(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Two solids change places."""
    movable = [o for o in unique(scene) if o.level == 0 and not covered(scene, o)]
    if len(movable) < 2:
        return None
    a, b = (movable[int(i)] for i in rng.permutation(len(movable))[:2])
    rest = tuple(o for o in scene.objects if o not in (a, b))
    new_a, new_b = a.moved(b.column, b.row), b.moved(a.column, a.row)
    target = replace(scene, objects=(*rest, new_a, new_b))
    return Proposal(Request("swap", ref=Ref.of(a), ref2=Ref.of(b)), target, (a, b), (new_a, new_b))


def between(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A solid goes between two of one row."""
    options = []
    ground = [o for o in unique(scene) if o.level == 0]
    for a in ground:
        for b in ground:
            if a.row != b.row or b.column - a.column < 2:
                continue
            for old in unique(scene):
                inside = old.row == a.row and a.column < old.column < b.column and old.level == 0
                if old in (a, b) or inside or covered(scene, old):
                    continue
                gaps = [c for c in range(a.column + 1, b.column) if (a.row, c) in free_after(scene, old)]
                if gaps:
                    options.append((old, a, b, gaps[0]))
    if not options:
        return None
    old, a, b, column = choose(rng, options)
    request = Request("between", ref=Ref.of(old), ref2=Ref.of(a), ref3=Ref.of(b))
    return relocated(request, scene, old, a.row, column)


def stack(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A solid goes on top of another one."""
    options = []
    for old in unique(scene):
        if old.level or covered(scene, old) or old.pose != "upright":
            continue
        rest = scene.without(old)
        for other in unique(scene):
            fits = other.size == "large" or old.size == "small"
            if other != old and fits and can_carry(rest, other):
                options.append((old, other))
    if not options:
        return None
    old, other = choose(rng, options)
    request = Request("stack", ref=Ref.of(old), ref2=Ref.of(other))
    return relocated(request, scene, old, other.row, other.column, 1)
