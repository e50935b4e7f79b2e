"""Counting edits: to exactly n, one more, the n-th from a side."""

from __future__ import annotations

import numpy as np

from earl.world.language.request import Ref, Request
from earl.world.proposals import Proposal, covered, first_free, keys_of, put, taken
from earl.world.sampling import Kinds, choose
from earl.world.scene import Scene, SceneObject


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
    return taken(Request("remove_nth", number=number, side=side), scene, old)
