"""Proposals: a request with its target scene, and helpers that the proposers of all families share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from earl.world import sampling
from earl.world.language.request import Ref, Request
from earl.world.sampling import Kinds, choose
from earl.world.scene import COLORS, Scene, SceneObject


@dataclass(frozen=True, slots=True)
class Proposal:
    """A request, the scene it should lead to, the solids it touches before and after, and the
    (kind of edit, shape, colour) triples that decide about the held-out combinations."""

    request: Request
    target: Scene
    before: tuple[SceneObject, ...] = ()
    after: tuple[SceneObject, ...] = ()
    keys: tuple[tuple[str, str, str], ...] = ()


Proposer = Callable[[Scene, np.random.Generator, Kinds], "Proposal | None"]


def keys_of(edit: str, obj: SceneObject) -> tuple[tuple[str, str, str], ...]:
    """The (kind of edit, shape, colour) triples that decide whether an edit is held out of training."""
    return ((edit, obj.shape, obj.color),)


def put(op: str, scene: Scene, new: SceneObject, kind: Ref) -> Proposal:
    """A new solid in a scene."""
    return Proposal(Request(op, kind=kind), scene.with_object(new), (), (new,), keys_of("add", new))


def taken(request: Request, scene: Scene, old: SceneObject) -> Proposal:
    """A solid taken away."""
    return Proposal(request, scene.without(old), (old,), (), keys_of("remove", old))


def swapped(request: Request, scene: Scene, old: SceneObject, new: SceneObject, edit: str = "") -> Proposal:
    """A solid that becomes another one at its place. Without `edit` no combination is held out."""
    keys = keys_of(edit, new) if edit else ()
    return Proposal(request, scene.swapped_for(old, new), (old,), (new,), keys)


def relocated(
    request: Request, scene: Scene, old: SceneObject, row: int, column: int, level: int = 0
) -> Proposal:
    """A solid moved to another place."""
    new = old.moved(column, row, level)
    return Proposal(request, scene.without(old).with_object(new), (old,), (new,))


def unique(scene: Scene) -> list[SceneObject]:
    """Solids whose colour and shape no other solid of the scene has."""
    names = [(o.shape, o.color) for o in scene.objects]
    return [o for o in scene.objects if names.count((o.shape, o.color)) == 1]


def covered(scene: Scene, obj: SceneObject) -> bool:
    """Whether something stands on a solid."""
    return obj.level == 0 and scene.at(obj.row, obj.column, 1) is not None


def first_free(scene: Scene) -> tuple[int, int] | None:
    """The canonical free place for a new solid: the front row from the left, then the back row."""
    free = sorted(scene.free_places(), key=lambda p: (-p[0], p[1]))
    return free[0] if free else None


def free_after(scene: Scene, obj: SceneObject) -> set[tuple[int, int]]:
    """Ground places free once a solid has been lifted."""
    return set(scene.without(obj).free_places())


def pick(scene: Scene, rng: np.random.Generator, where: Callable[[SceneObject], bool]) -> SceneObject | None:
    """One of the solids that words can name and `where` allows; None where there is none."""
    options = [o for o in unique(scene) if where(o)]
    return choose(rng, options) if options else None


def new_kind(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Ref:
    """A kind of solid whose colour and shape the scene does not have together."""
    while True:
        obj = sampling.sample_object(rng, 0, 0, kinds=kinds)
        if all((o.shape, o.color) != (obj.shape, obj.color) for o in scene.objects):
            small = "small" if obj.size == "small" else None
            return Ref(obj.shape, obj.color, small, "striped" if obj.texture == "striped" else None)


def build(kind: Ref, row: int, column: int, level: int = 0) -> SceneObject:
    """The solid of a kind, exactly on a place."""
    assert kind.shape and kind.color
    return SceneObject(
        kind.shape, kind.color, column, row, kind.size or "large", kind.texture or "plain", level=level
    )


def recolored(scene: Scene, old: SceneObject, rng: np.random.Generator, kinds: Kinds) -> SceneObject | None:
    """The solid in a colour that no other of its shape has; None where all are taken."""
    taken = {o.color for o in scene.objects if o.shape == old.shape}
    options = [c for c in (COLORS if kinds == "full" else sampling.FEW_COLORS) if c not in taken]
    return replace(old, color=choose(rng, options)) if options else None
