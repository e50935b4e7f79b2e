"""Edits of scenes: the families of what may be asked, and the combinations kept from training.

Each proposer takes a scene and a random generator and returns a request with its target scene
and the solids it touches, or None where the scene does not allow that edit. Targets are
canonical (new and moved solids stand exactly on their place), so that the same question has
the same answer; the verifier accepts any other valid outcome too (`goals`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earl.world import actions, counting, relations, simple, spatial
from earl.world.language.request import OTHER, Request
from earl.world.proposals import Proposal, Proposer
from earl.world.sampling import Kinds
from earl.world.scene import COLORS, SHAPES, Scene


def double(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Two simple edits of different solids, one after the other."""
    pool = (simple.remove, simple.color, simple.size, simple.texture, simple.background, simple.add)
    first_of, second_of = (pool[int(i)] for i in rng.permutation(len(pool))[:2])
    first = first_of(scene, rng, kinds)
    second = second_of(first.target, rng, kinds) if first else None
    if first is None or second is None:
        return None
    touched = {o.place for o in (*first.before, *first.after)}
    if touched & {o.place for o in (*second.before, *second.after)}:
        return None
    if second.request.ref is not None and sum(map(second.request.ref.matches, scene.objects)) != 1:
        return None
    request = replace(first.request, then=second.request)
    before, after = (*first.before, *second.before), (*first.after, *second.after)
    return Proposal(request, second.target, before, after, first.keys + second.keys)


SIMPLE: dict[str, Proposer] = {
    "add": simple.add,
    "remove": simple.remove,
    "replace": simple.replace_solid,
    "color": simple.color,
    "size": simple.size,
    "texture": simple.texture,
    "background": simple.background,
    "style": simple.style,
}
COMPLEX: dict[str, Proposer] = {
    "count": counting.count,
    "move": spatial.move,
    "swap": spatial.swap,
    "between": spatial.between,
    "stack": spatial.stack,
    "roll": actions.roll,
    "topple": actions.topple,
    "open": actions.open_lid,
    "gather": actions.gather,
    "relation": relations.of_related,
    "double": double,
}
PROPOSERS: dict[str, Proposer] = {**SIMPLE, **COMPLEX}
FAMILIES: dict[str, str] = {**dict.fromkeys(SIMPLE, "simple"), **dict.fromkeys(COMPLEX, "complex")}


def nothing(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """What a sentence asks for that asks for nothing of this world: the scene stays as it is."""
    return Proposal(Request(OTHER), scene)


REFUSED: dict[str, Proposer] = {OTHER: nothing}
"""Drawn only where it is asked for by name; not among the families of edits."""


def held_out(edit: str) -> frozenset[tuple[str, str]]:
    """The (shape, colour) pairs that training never sees as the outcome (for removal: the object)
    of this kind of edit: one colour for each shape, shifted from one kind of edit to the next."""
    if edit not in SIMPLE or edit in ("background", "style"):
        return frozenset()
    turn = list(SIMPLE).index(edit)
    return frozenset((s, COLORS[(i * 2 + turn) % len(COLORS)]) for i, s in enumerate(SHAPES))


def uses_held_out(proposal: Proposal) -> bool:
    """Whether a proposal belongs to the held-out combinations."""
    return any((shape, color) in held_out(edit) for edit, shape, color in proposal.keys)
