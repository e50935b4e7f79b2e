"""Edits of scenes: what may be asked of a scene, and the one target picture we draw for it.

Each proposer takes a scene and a random generator and returns a request with its target scene
and the solids it touches, or None where the scene does not allow that edit. Targets are
canonical (new and moved solids stand exactly on their place), so that the same question has
the same answer; the verifier accepts any other valid outcome too (`goals`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from earl.world import sampling
from earl.world.language import Ref, Request
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


def _key(edit: str, obj: SceneObject) -> tuple[tuple[str, str, str], ...]:
    return ((edit, obj.shape, obj.color),)


def unique(scene: Scene) -> list[SceneObject]:
    """Solids that colour and shape name without doubt."""
    names = [(o.shape, o.color) for o in scene.objects]
    return [o for o in scene.objects if names.count((o.shape, o.color)) == 1]


def covered(scene: Scene, obj: SceneObject) -> bool:
    """Whether something stands on a solid."""
    return obj.level == 0 and scene.at(obj.row, obj.column, 1) is not None


def first_free(scene: Scene) -> tuple[int, int] | None:
    """The canonical free place for a new solid: the front row from the left, then the back row."""
    free = sorted(scene.free_places(), key=lambda p: (-p[0], p[1]))
    return free[0] if free else None


def _pick(scene: Scene, rng: np.random.Generator, where: Callable[[SceneObject], bool]) -> SceneObject | None:
    found = [o for o in unique(scene) if where(o)]
    return choose(rng, found) if found else None


def _new_kind(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Ref:
    while True:
        obj = sampling.sample_object(rng, 0, 0, kinds=kinds)
        if all((o.shape, o.color) != (obj.shape, obj.color) for o in scene.objects):
            small = "small" if obj.size == "small" else None
            return Ref(obj.shape, obj.color, small, "striped" if obj.texture == "striped" else None)


def _build(kind: Ref, row: int, column: int, level: int = 0) -> SceneObject:
    assert kind.shape and kind.color
    return SceneObject(
        kind.shape, kind.color, column, row, kind.size or "large", kind.texture or "plain", level=level
    )


def _add(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    place = first_free(scene)
    if place is None or len(scene.objects) >= 5:
        return None
    kind = _new_kind(scene, rng, kinds)
    new = _build(kind, *place)
    return Proposal(Request("add", kind=kind), scene.with_object(new), (), (new,), _key("add", new))


def _remove(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    old = _pick(scene, rng, lambda o: not covered(scene, o))
    if old is None:
        return None
    return Proposal(Request("remove", ref=Ref.of(old)), scene.without(old), (old,), (), _key("remove", old))


def _replace(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    old = _pick(scene, rng, lambda o: not covered(scene, o) and o.level == 0)
    if old is None:
        return None
    kind = _new_kind(scene, rng, kinds)
    kind = Ref(kind.shape, kind.color)
    new = replace(_build(kind, old.row, old.column), size=old.size, dx=old.dx, dy=old.dy)
    request = Request("replace", ref=Ref.of(old), kind=kind)
    return Proposal(request, scene.swapped_for(old, new), (old,), (new,), _key("replace", new))


def _recolor(scene: Scene, old: SceneObject, rng: np.random.Generator, kinds: Kinds) -> SceneObject | None:
    taken = {o.color for o in scene.objects if o.shape == old.shape}
    options = [c for c in (COLORS if kinds == "full" else sampling.FEW_COLORS) if c not in taken]
    return replace(old, color=choose(rng, options)) if options else None


def _color(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    old = _pick(scene, rng, lambda o: True)
    new = _recolor(scene, old, rng, kinds) if old else None
    if old is None or new is None:
        return None
    request = Request("color", ref=Ref.of(old), value=new.color)
    return Proposal(request, scene.swapped_for(old, new), (old,), (new,), _key("color", new))


def _size(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    old = _pick(scene, rng, lambda o: not covered(scene, o) and o.level == 0)
    if old is None:
        return None
    new = replace(old, size="small" if old.size == "large" else "large")
    request = Request("shrink" if new.size == "small" else "enlarge", ref=Ref.of(old))
    return Proposal(request, scene.swapped_for(old, new), (old,), (new,), _key("size", new))


def _texture(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    old = _pick(scene, rng, lambda o: True)
    if old is None:
        return None
    new = replace(old, texture="striped" if old.texture == "plain" else "plain")
    request = Request("stripe" if new.texture == "striped" else "unstripe", ref=Ref.of(old))
    return Proposal(request, scene.swapped_for(old, new), (old,), (new,), _key("texture", new))


def _background(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    value = choose(rng, [b for b in BACKGROUNDS if b != scene.background])
    return Proposal(Request("background", value=value), replace(scene, background=value))


def _style(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    if scene.style not in ("day", "night"):
        return None
    value = choose(rng, [s for s in STYLES if s != scene.style]) if scene.style == "day" else "day"
    return Proposal(Request("style", value=value), replace(scene, style=value))


def _topple(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    old = _pick(scene, rng, lambda o: o.shape in TOPPLING and o.pose == "upright" and o.level == 0)
    if old is None or covered(scene, old):
        return None
    new = replace(old, pose="toppled")
    return Proposal(Request("topple", ref=Ref.of(old)), scene.swapped_for(old, new), (old,), (new,))


def _open(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    old = _pick(scene, rng, lambda o: o.shape in OPENING and o.pose == "upright" and o.level == 0)
    if old is None or covered(scene, old):
        return None
    new = replace(old, pose="open")
    return Proposal(Request("open", ref=Ref.of(old)), scene.swapped_for(old, new), (old,), (new,))


def _movable(scene: Scene, obj: SceneObject) -> bool:
    return not covered(scene, obj)


def free_after(scene: Scene, obj: SceneObject) -> set[tuple[int, int]]:
    """Ground places free once a solid has been lifted."""
    return set(scene.without(obj).free_places())


def _relocate(
    scene: Scene, old: SceneObject, row: int, column: int, level: int = 0
) -> tuple[Scene, SceneObject]:
    new = old.moved(column, row, level)
    return scene.without(old).with_object(new), new


def _roll(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    options = []
    for old in unique(scene):
        if old.shape == "sphere" and old.level == 0:
            for side, step in (("left", -1), ("right", 1)):
                if (old.row, old.column + step) in free_after(scene, old):
                    options.append((old, side, step))
    if not options:
        return None
    old, side, step = choose(rng, options)
    target, new = _relocate(scene, old, old.row, old.column + step)
    return Proposal(Request("roll", ref=Ref.of(old), side=side), target, (old,), (new,))


def _gather(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    if len(scene.objects) > COLUMNS or any(o.level for o in scene.objects):
        return None
    if len({o.row for o in scene.objects}) == 1:
        return None
    order = sorted(scene.objects, key=lambda o: (o.column, o.row))
    new = tuple(o.moved(i, 1) for i, o in enumerate(order))
    return Proposal(Request("gather"), replace(scene, objects=new), tuple(order), new)


def _move(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    options = []
    for old in unique(scene):
        for other in unique(scene):
            if old == other or other.level or not _movable(scene, old):
                continue
            for side, step in (("left", -1), ("right", 1)):
                beside = old.row == other.row and old.level == 0 and (old.column - other.column) * step > 0
                place = (other.row, other.column + step)
                if place in free_after(scene, old) and not beside:
                    options.append((old, other, side, place))
    if not options:
        return None
    old, other, side, place = choose(rng, options)
    target, new = _relocate(scene, old, *place)
    return Proposal(Request("move", ref=Ref.of(old), ref2=Ref.of(other), side=side), target, (old,), (new,))


def _swap(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    found = [o for o in unique(scene) if o.level == 0 and not covered(scene, o)]
    if len(found) < 2:
        return None
    i, j = rng.permutation(len(found))[:2]
    a, b = found[int(i)], found[int(j)]
    rest = tuple(o for o in scene.objects if o not in (a, b))
    new_a, new_b = a.moved(b.column, b.row), b.moved(a.column, a.row)
    target = replace(scene, objects=(*rest, new_a, new_b))
    return Proposal(Request("swap", ref=Ref.of(a), ref2=Ref.of(b)), target, (a, b), (new_a, new_b))


def _between(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    options = []
    ground = [o for o in unique(scene) if o.level == 0]
    for a in ground:
        for b in ground:
            if a.row != b.row or b.column - a.column < 2:
                continue
            for old in unique(scene):
                inside = old.row == a.row and a.column < old.column < b.column and old.level == 0
                if old in (a, b) or inside or not _movable(scene, old):
                    continue
                gaps = [c for c in range(a.column + 1, b.column) if (a.row, c) in free_after(scene, old)]
                if gaps:
                    options.append((old, a, b, gaps[0]))
    if not options:
        return None
    old, a, b, column = choose(rng, options)
    target, new = _relocate(scene, old, a.row, column)
    request = Request("between", ref=Ref.of(old), ref2=Ref.of(a), ref3=Ref.of(b))
    return Proposal(request, target, (old,), (new,))


def _stack(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    options = []
    for old in unique(scene):
        if old.level or not _movable(scene, old) or old.pose != "upright":
            continue
        rest = scene.without(old)
        for other in unique(scene):
            fits = other.size == "large" or old.size == "small"
            if other != old and fits and can_carry(rest, other):
                options.append((old, other))
    if not options:
        return None
    old, other = choose(rng, options)
    target, new = _relocate(scene, old, other.row, other.column, 1)
    return Proposal(Request("stack", ref=Ref.of(old), ref2=Ref.of(other)), target, (old,), (new,))


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


def _related(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
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
        request = Request("remove_related", relation=relation, ref2=Ref.of(other))
        return Proposal(request, scene.without(old), (old,), (), _key("remove", old))
    new = _recolor(scene, old, rng, kinds)
    if new is None:
        return None
    request = Request("color_related", relation=relation, ref2=Ref.of(other), value=new.color)
    return Proposal(request, scene.swapped_for(old, new), (old,), (new,), _key("color", new))


def _count(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    return choose(rng, (_exactly, _one_more, _remove_nth))(scene, rng, kinds)


def _exactly(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    seed = choose(rng, scene.objects)
    same = [o for o in scene.objects if (o.shape, o.color) == (seed.shape, seed.color)]
    free = len(list(scene.free_places()))
    options = [n for n in (1, 2, 3) if n != len(same) and n - len(same) <= min(free, 5 - len(scene.objects))]
    if not options or any(covered(scene, o) or o.level for o in same):
        return None
    number = int(choose(rng, options))
    target = scene
    after: list[SceneObject] = []
    before: list[SceneObject] = []
    model = same[0]
    for _ in range(number - len(same)):
        row, column = first_free(target) or (0, 0)
        new = model.moved(column, row)
        target, after = target.with_object(new), [*after, new]
    for old in sorted(same, key=lambda o: (o.column, o.row))[number:]:
        target, before = target.without(old), [*before, old]
    request = Request("exactly", number=number, kind=Ref.of(model))
    return Proposal(request, target, tuple(before), tuple(after), _key("add" if after else "remove", model))


def _one_more(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    place = first_free(scene)
    model = choose(rng, [o for o in scene.objects if o.level == 0])
    alike = {o.kind for o in scene.objects if (o.shape, o.color) == (model.shape, model.color)}
    if place is None or len(scene.objects) >= 5 or len(alike) > 1 or model.pose != "upright":
        return None
    new = model.moved(place[1], place[0])
    request = Request("one_more", kind=Ref.of(model))
    return Proposal(request, scene.with_object(new), (), (new,), _key("add", new))


def nth_from(scene: Scene, number: int, side: str) -> SceneObject | None:
    """The n-th ground solid from one side; None where two share the deciding column."""
    ground = [o for o in scene.objects if o.level == 0]
    columns = [o.column for o in ground]
    if len(set(columns)) != len(columns) or number > len(ground):
        return None
    return sorted(ground, key=lambda o: o.column if side == "left" else -o.column)[number - 1]


def _remove_nth(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    number, side = int(rng.integers(1, 4)), choose(rng, ("left", "right"))
    old = nth_from(scene, number, side)
    if old is None or covered(scene, old):
        return None
    return Proposal(
        Request("remove_nth", number=number, side=side), scene.without(old), (old,), (), _key("remove", old)
    )


def _double(scene: Scene, rng: np.random.Generator, kinds: Kinds) -> Proposal | None:
    pool = (_remove, _color, _size, _texture, _background, _add)
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
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "color": _color,
    "size": _size,
    "texture": _texture,
    "background": _background,
    "style": _style,
}
COMPLEX: dict[str, Proposer] = {
    "count": _count,
    "move": _move,
    "swap": _swap,
    "between": _between,
    "stack": _stack,
    "roll": _roll,
    "topple": _topple,
    "open": _open,
    "gather": _gather,
    "relation": _related,
    "double": _double,
}
PROPOSERS: dict[str, Proposer] = {**SIMPLE, **COMPLEX}
FAMILIES: dict[str, str] = {**dict.fromkeys(SIMPLE, "simple"), **dict.fromkeys(COMPLEX, "complex")}


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
