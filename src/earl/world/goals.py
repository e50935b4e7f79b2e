"""Valid outcomes of a request, and the comparison of an edited scene with them.

`outcomes` lists every scene that fulfils a request (an added solid may stand in any free
place); `check` compares the scene seen after the edit with the nearest of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations, permutations, product

from earl.errors import InstructionError
from earl.world.language.request import OTHER, Ref, Request
from earl.world.sampling import can_carry
from earl.world.scene import COLUMNS, ROWS, SIZES, Scene, SceneObject

Outcomes = Callable[[Request, Scene], Iterator[Scene]]
FAILED_CEILING = 0.9  # an edit that failed, or damage, scores at most this much of 10


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of an edit, judged on scenes.

    `edit_success` and `over_editing` are 0-10 (10: done in full; nothing else touched); where
    something is wrong they lie in [0, 0.9], rising steeply with how near it came: half of an edit
    is cheap (taking a solid away is half of moving it), and must not pay. `exact`: both are 10.
    Over-editing is 0 where no other solid is left as it was, or the background or style changed
    too: else it would pay to erase everything to be sure of a removal. `result` is one of `OUTCOMES`.
    """

    edit_success: float
    over_editing: float
    exact: bool
    result: str
    why: str
    expected: Scene


def check(request: Request, source: Scene, edited: Scene) -> Outcome:
    """Compare the scene seen after an edit with the outcomes that the request allows.

    Raises:
        InstructionError: the request speaks of something that is not in the source.
    """
    best: Outcome | None = None
    for target in outcomes(request, source):
        outcome = _compare(source, target, edited)
        if best is None or _rank(outcome) > _rank(best):
            best = outcome
        if best.exact:
            break
    if best is None:
        raise InstructionError(f"nothing in this image allows {request.op.replace('_', ' ')!r} as asked")
    return best


def _rank(outcome: Outcome) -> tuple[bool, float]:
    return outcome.exact, outcome.edit_success + outcome.over_editing


def _items(scene: Scene) -> dict[object, object]:
    items: dict[object, object] = {o.place: o for o in scene.objects}
    return {**items, "background": scene.background, "style": scene.style}


def likeness(a: object, b: object) -> float:
    """Similarity of two things seen at one place, 0-1; 1 means the same but for jitter."""
    if isinstance(a, SceneObject) and isinstance(b, SceneObject):
        same = [x == y for x, y in zip(a.kind, b.kind, strict=True)]
        return 0.2 + sum(w for w, s in zip((0.25, 0.25, 0.1, 0.1, 0.1), same, strict=True) if s)
    return float(a == b)


def _compare(source: Scene, target: Scene, edited: Scene) -> Outcome:
    was, want, seen = _items(source), _items(target), _items(edited)
    gains: list[float] = []
    kept: dict[object, float] = {}
    problems: list[str] = []
    touched = False  # anything that was to change
    for place in {**was, **want, **seen}:
        before, goal, now = was.get(place), want.get(place), seen.get(place)
        match = likeness(goal, now)
        if likeness(before, goal) < 0.999:
            start = likeness(before, goal)
            touched = touched or likeness(before, now) < 0.999
            gains.append(max(0.0, (match - start) / (1 - start)))
            if match < 0.999:
                problems.append(f"{_name(place)}: expected {_words(goal)}, seen {_words(now)}")
        else:
            kept[place] = match
            if match < 0.999:
                problems.append(f"{_name(place)}: {_words(goal)} became {_words(now)}")
    done = not gains or min(gains) > 0.999
    success = 10.0 if done else FAILED_CEILING * (sum(gains) / len(gains)) ** 2
    clean = min(kept.values(), default=1.0) > 0.999
    over = 10.0 if clean else FAILED_CEILING * _left_alone(kept)
    result = _result(done=done, touched=touched, clean=clean)
    return Outcome(success, over, done and clean, result, "; ".join(problems) or "as asked", target)


def _result(*, done: bool, touched: bool, clean: bool) -> str:
    if done:
        return "exact" if clean else "also elsewhere"
    if touched:
        return "wrong" if clean else "wrong, also elsewhere"
    return "untouched" if clean else "elsewhere"


def _left_alone(kept: dict[object, float]) -> float:
    """0-1: 1 where all that should stay is unchanged; the fourth power of the share of unchanged solids."""
    solids = [match for place, match in kept.items() if isinstance(place, tuple)]
    share = sum(solids) / len(solids) if solids else 1.0
    return share**4 * min(kept.get("background", 1.0), kept.get("style", 1.0))


def _name(place: object) -> str:
    if isinstance(place, tuple):
        row, column, level = place
        return f"{'front' if row else 'back'} place {column + 1}{' on top' if level else ''}"
    return str(place)


def _words(thing: object) -> str:
    if isinstance(thing, SceneObject):
        return "a " + " ".join((thing.size, thing.texture, thing.pose, thing.color, thing.shape))
    return "nothing" if thing is None else str(thing)


def outcomes(request: Request, scene: Scene) -> Iterator[Scene]:
    """Every scene that fulfils a request, jitter apart (the canonical one is not marked).

    Raises:
        InstructionError: the request speaks of something that is not in the scene.
    """
    first = replace(request, then=None)
    for result in _OUTCOMES[first.op](first, scene):
        if request.then is None:
            yield result
        else:
            yield from outcomes(request.then, result)


def resolve(ref: Ref | None, scene: Scene) -> SceneObject:
    """The one solid that words name. Raises InstructionError when there is none, or more than one."""
    assert ref is not None
    named = ref.find(scene)
    if len(named) != 1:
        words = ref.words(plural=len(named) != 1)
        raise InstructionError(f"the image shows {len(named) or 'no'} {words}; name exactly one")
    return named[0]


def _spots(scene: Scene) -> list[tuple[int, int, int]]:
    """Every place that a new solid may take, stacks included."""
    ground = [(r, c, 0) for r, c in scene.free_places()]
    return ground + [(o.row, o.column, 1) for o in scene.objects if can_carry(scene, o)]


def _forms(kind: Ref, place: tuple[int, int, int]) -> Iterator[SceneObject]:
    assert kind.shape and kind.color
    row, column, level = place
    for size in (kind.size,) if kind.size else SIZES:
        yield SceneObject(kind.shape, kind.color, column, row, size, kind.texture or "plain", level=level)


def _add(request: Request, scene: Scene) -> Iterator[Scene]:
    assert request.kind is not None
    for place in _spots(scene):
        for obj in _forms(request.kind, place):
            yield scene.with_object(obj)


def _replace(request: Request, scene: Scene) -> Iterator[Scene]:
    old = resolve(request.ref, scene)
    assert request.kind is not None
    for obj in _forms(request.kind, old.place):
        yield scene.swapped_for(old, obj)


def _attribute(name: str, value: str = "") -> Outcomes:
    """The named solid with another attribute: the given value, or the request's."""

    def changed(request: Request, scene: Scene) -> Iterator[Scene]:
        old = _related_solid(request, scene) if request.relation else resolve(request.ref, scene)
        yield scene.swapped_for(old, replace(old, **{name: value or request.value}))  # type: ignore[arg-type]

    return changed


def _whole(name: str) -> Outcomes:
    """The scene with another background or style."""
    return lambda request, scene: iter([replace(scene, **{name: request.value})])  # type: ignore[arg-type]


def _copies(scene: Scene, model: SceneObject, places: tuple[tuple[int, int, int], ...]) -> Scene:
    for row, column, level in places:
        scene = scene.with_object(
            replace(model.moved(column, row, level), pose="upright" if level else model.pose)
        )
    return scene


def _alike(request: Request, scene: Scene) -> list[SceneObject]:
    assert request.kind is not None
    same = [o for o in scene.objects if request.kind.matches(o)]
    if not same:
        raise InstructionError(f"the image shows no {request.kind.words()}; name a solid that is there")
    return same


def _exactly(request: Request, scene: Scene) -> Iterator[Scene]:
    same, number = _alike(request, scene), int(request.number or 1)
    if number >= len(same):
        for places in combinations(_spots(scene), number - len(same)):
            yield _copies(scene, same[0], places)
        return
    for gone in combinations(same, len(same) - number):
        result = scene
        for obj in gone:
            result = result.without(obj)
        yield result


def _one_more(request: Request, scene: Scene) -> Iterator[Scene]:
    model = _alike(request, scene)[0]
    for place in _spots(scene):
        yield _copies(scene, model, (place,))


def _remove_nth(request: Request, scene: Scene) -> Iterator[Scene]:
    old = scene.nth_from(int(request.number or 1), str(request.side))
    if old is None:
        raise InstructionError("the image has no single object at that place of the row")
    yield scene.without(old)


def _relocations(scene: Scene, old: SceneObject, allowed: Callable[[int, int], bool]) -> Iterator[Scene]:
    rest = scene.without(old)
    for row, column in rest.free_places():
        if allowed(row, column) and (row, column, 0) != old.place:
            yield rest.with_object(old.moved(column, row))


def _move(request: Request, scene: Scene) -> Iterator[Scene]:
    old, other = resolve(request.ref, scene), resolve(request.ref2, scene)
    step = -1 if request.side == "left" else 1
    yield from _relocations(scene, old, lambda r, c: (c - other.column) * step > 0)


def _swap(request: Request, scene: Scene) -> Iterator[Scene]:
    a, b = resolve(request.ref, scene), resolve(request.ref2, scene)
    rest = tuple(o for o in scene.objects if o not in (a, b))
    swapped = (a.moved(b.column, b.row, b.level), b.moved(a.column, a.row, a.level))
    yield replace(scene, objects=rest + swapped)


def _between(request: Request, scene: Scene) -> Iterator[Scene]:
    old = resolve(request.ref, scene)
    a, b = resolve(request.ref2, scene), resolve(request.ref3, scene)
    low, high = sorted((a.column, b.column))
    yield from _relocations(scene, old, lambda r, c: r in (a.row, b.row) and low < c < high)


def _stack(request: Request, scene: Scene) -> Iterator[Scene]:
    old, other = resolve(request.ref, scene), resolve(request.ref2, scene)
    rest = scene.without(old)
    yield rest.with_object(old.moved(other.column, other.row, 1))


def _roll(request: Request, scene: Scene) -> Iterator[Scene]:
    old = resolve(request.ref, scene)
    step = -1 if request.side == "left" else 1
    yield from _relocations(scene, old, lambda r, c: r == old.row and (c - old.column) * step > 0)


def _gather(request: Request, scene: Scene) -> Iterator[Scene]:
    solids = scene.objects
    for row, columns in product(range(ROWS), permutations(range(COLUMNS), len(solids))):
        placed = tuple(o.moved(c, row) for o, c in zip(solids, columns, strict=True))
        yield replace(scene, objects=placed)


def _related_solid(request: Request, scene: Scene) -> SceneObject:
    other = resolve(request.ref2, scene)
    solid = scene.related(str(request.relation), other)
    if solid is None:
        assert request.ref2 is not None
        raise InstructionError(f"nothing stands {request.relation} the {request.ref2.words()}")
    return solid


_OUTCOMES: dict[str, Outcomes] = {
    OTHER: lambda request, scene: iter([scene]),
    "add": _add,
    "remove": lambda request, scene: iter([scene.without(resolve(request.ref, scene))]),
    "replace": _replace,
    "color": _attribute("color"),
    "shrink": _attribute("size", "small"),
    "enlarge": _attribute("size", "large"),
    "stripe": _attribute("texture", "striped"),
    "unstripe": _attribute("texture", "plain"),
    "background": _whole("background"),
    "style": _whole("style"),
    "exactly": _exactly,
    "one_more": _one_more,
    "remove_nth": _remove_nth,
    "move": _move,
    "swap": _swap,
    "between": _between,
    "stack": _stack,
    "roll": _roll,
    "topple": _attribute("pose", "toppled"),
    "open": _attribute("pose", "open"),
    "gather": _gather,
    "remove_related": lambda request, scene: iter([scene.without(_related_solid(request, scene))]),
    "color_related": _attribute("color"),
}
