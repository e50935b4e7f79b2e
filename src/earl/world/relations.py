"""Relational edits: a solid that only its relation to another one names."""

from __future__ import annotations

import numpy as np

from earl.world.language.request import Ref, Request
from earl.world.proposals import Proposal, covered, recolored, swapped, taken, unique
from earl.world.sampling import Kinds, choose
from earl.world.scene import Scene, SceneObject


def related(scene: Scene, relation: str, other: SceneObject) -> SceneObject | None:
    """The solid that stands in a relation to another one; None where there is none or no single one."""
    row, column = other.row, other.column
    if other.level:
        return None
    if relation == "on top of":
        return scene.at(row, column, 1)
    if relation == "behind":
        return scene.at(0, column) if row == 1 else None
    if relation == "in front of":
        return scene.at(1, column) if row == 0 else None
    step = -1 if relation == "to the left of" else 1
    return scene.at(row, column + step)


def of_related(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Remove or recolour the solid that stands so to another one."""
    options = []
    for other in unique(scene):
        for relation in ("behind", "in front of", "to the left of", "to the right of", "on top of"):
            found = related(scene, relation, other)
            if found is not None and not covered(scene, found):
                options.append((found, relation, other))
    if not options:
        return None
    old, relation, other = choose(rng, options)
    if rng.random() < 0.5:
        return taken(Request("remove_related", relation=relation, ref2=Ref.of(other)), scene, old)
    new = recolored(scene, old, rng, kinds)
    if new is None:
        return None
    request = Request("color_related", relation=relation, ref2=Ref.of(other), value=new.color)
    return swapped(request, scene, old, new, "color")
