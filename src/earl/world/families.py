"""Families of edits: what may be asked of a scene, and the combinations kept from training.

Each proposer takes a scene and a random generator and returns a request with its target scene and the solids
it touches, or None where the scene does not allow that edit. Targets are canonical (new and moved solids
stand exactly on their place), so that the same question has the same answer; the verifier accepts any other
valid outcome too (`goals`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earl.world.language.request import OTHER, RELATIONS, Ref, Request
from earl.world.proposals import (
    Proposal,
    Proposer,
    build,
    covered,
    first_free,
    free_after,
    keys_of,
    new_kind,
    pick,
    put,
    recolored,
    relocated,
    swapped,
    taken,
    unique,
)
from earl.world.sampling import Kinds, can_carry, choose
from earl.world.scene import (
    BACKGROUNDS,
    COLORS,
    COLUMNS,
    OPENING,
    SHAPES,
    STYLES,
    TOPPLING,
    Scene,
    SceneObject,
)


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


def count(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """One of the three ways to ask by number."""
    return choose(rng, (_exactly, _one_more, _remove_nth))(scene, rng, kinds)


def _exactly(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    chosen = choose(rng, scene.objects)
    same = [o for o in scene.objects if (o.shape, o.color) == (chosen.shape, chosen.color)]
    free = len(list(scene.free_places()))
    options = [n for n in (1, 2, 3) if n != len(same) and n - len(same) <= min(free, 5 - len(scene.objects))]
    if not options or any(covered(scene, o) or o.level for o in same):
        return None
    number, target, model = int(choose(rng, options)), scene, same[0]
    added: list[SceneObject] = []
    for _ in range(number - len(same)):
        row, column = first_free(target) or (0, 0)
        added.append(model.moved(column, row))
        target = target.with_object(added[-1])
    gone = sorted(same, key=lambda o: (o.column, o.row))[number:]
    for old in gone:
        target = target.without(old)
    request = Request("exactly", number=number, kind=Ref.of(model))
    keys = keys_of("add" if added else "remove", model)
    return Proposal(request, target, tuple(gone), tuple(added), keys)


def _one_more(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    place = first_free(scene)
    model = choose(rng, [o for o in scene.objects if o.level == 0])
    alike = {o.kind for o in scene.objects if (o.shape, o.color) == (model.shape, model.color)}
    if place is None or len(scene.objects) >= 5 or len(alike) > 1 or model.pose != "upright":
        return None
    return put("one_more", scene, model.moved(place[1], place[0]), Ref.of(model))


def _remove_nth(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    number, side = int(rng.integers(1, 4)), choose(rng, ("left", "right"))
    old = scene.nth_from(number, side)
    if old is None or covered(scene, old):
        return None
    return taken(Request("remove_nth", number=number, side=side), scene, old)


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


def of_related(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Remove or recolour the solid that stands so to another one."""
    options = []
    for other in unique(scene):
        for relation in RELATIONS:
            found = scene.related(relation, other)
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


def double(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Two simple edits of different solids, one after the other."""
    pool = (remove, color, size, texture, background, add)
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
    "add": add,
    "remove": remove,
    "replace": replace_solid,
    "color": color,
    "size": size,
    "texture": texture,
    "background": background,
    "style": style,
}
COMPLEX: dict[str, Proposer] = {
    "count": count,
    "move": move,
    "swap": swap,
    "between": between,
    "stack": stack,
    "roll": roll,
    "topple": topple,
    "open": open_lid,
    "gather": gather,
    "relation": of_related,
    "double": double,
}
PROPOSERS: dict[str, Proposer] = {**SIMPLE, **COMPLEX}
FAMILIES: dict[str, str] = {**dict.fromkeys(SIMPLE, "simple"), **dict.fromkeys(COMPLEX, "complex")}


def nothing(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    """Proposal for a sentence that asks for nothing of this world: the scene stays as it is."""
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
