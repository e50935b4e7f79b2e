"""Simple edits: one object, attribute or look of the image changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earl.world.language.request import Ref, Request
from earl.world.proposals import (
    Proposal,
    build,
    covered,
    first_free,
    new_kind,
    pick,
    put,
    recolored,
    swapped,
    taken,
)
from earl.world.sampling import Kinds, choose
from earl.world.scene import BACKGROUNDS, STYLES, Scene


def add(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A new solid on the canonical free place."""
    place = first_free(scene)
    if place is None or len(scene.objects) >= 5:
        return None
    kind = new_kind(scene, rng, kinds)
    return put("add", scene, build(kind, *place), kind)


def remove(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A solid goes away."""
    old = pick(scene, rng, lambda o: not covered(scene, o))
    return taken(Request("remove", ref=Ref.of(old)), scene, old) if old else None


def replace_solid(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Another kind of solid stands where one stood."""
    old = pick(scene, rng, lambda o: not covered(scene, o) and o.level == 0)
    if old is None:
        return None
    kind = new_kind(scene, rng, kinds)
    kind = Ref(kind.shape, kind.color)
    new = replace(build(kind, old.row, old.column), size=old.size, dx=old.dx, dy=old.dy)
    return swapped(Request("replace", ref=Ref.of(old), kind=kind), scene, old, new, "replace")


def color(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A solid in another colour."""
    old = pick(scene, rng, lambda o: True)
    new = recolored(scene, old, rng, kinds) if old else None
    if old is None or new is None:
        return None
    return swapped(Request("color", ref=Ref.of(old), value=new.color), scene, old, new, "color")


def size(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """A solid smaller or bigger."""
    old = pick(scene, rng, lambda o: not covered(scene, o) and o.level == 0)
    if old is None:
        return None
    new = replace(old, size="small" if old.size == "large" else "large")
    request = Request("shrink" if new.size == "small" else "enlarge", ref=Ref.of(old))
    return swapped(request, scene, old, new, "size")


def texture(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Stripes put on or taken off."""
    old = pick(scene, rng, lambda o: True)
    if old is None:
        return None
    new = replace(old, texture="striped" if old.texture == "plain" else "plain")
    request = Request("stripe" if new.texture == "striped" else "unstripe", ref=Ref.of(old))
    return swapped(request, scene, old, new, "texture")


def background(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Another ground and horizon."""
    value = choose(rng, [b for b in BACKGROUNDS if b != scene.background])
    return Proposal(Request("background", value=value), replace(scene, background=value))


def style(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Another light or medium for the whole image."""
    if scene.style not in ("day", "night"):
        return None
    value = choose(rng, [s for s in STYLES if s != scene.style]) if scene.style == "day" else "day"
    return Proposal(Request("style", value=value), replace(scene, style=value))
