"""Other true descriptions of the solids that a request names, and the request as JSON with them.

A wording may say "the ball", "the blue one" or "the one on the left" where the request says "the blue
sphere", if that names the same solid in the scene. Which descriptions do so is found once, while the
scene is at hand, and is kept with the request.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from earl.world.language.request import PLACES, Ref, Request
from earl.world.scene import Scene, SceneObject

_REFS = ("ref", "ref2", "ref3")
_FIELDS = ("shape", "color", "size", "texture", "place")
_MOST_WORDS = 3  # of a description, the article and "one" left aside


@dataclass(frozen=True, slots=True)
class Named:
    """A request with every description that may stand in the place of its own, by field name."""

    request: Request
    names: dict[str, tuple[Ref, ...]]
    then: Named | None = None


def descriptions(obj: SceneObject, scenes: tuple[Scene, ...]) -> tuple[Ref, ...]:
    """Every description that fits this solid and no other in each of the scenes."""
    found = []
    flags = product((True, False), (True, False), (False, True), (False, True), (None, *PLACES))
    for shape, color, size, texture, place in flags:
        ref = Ref(
            obj.shape if shape else None,
            obj.color if color else None,
            obj.size if size else None,
            obj.texture if texture else None,
            place,
        )
        if sum(map(bool, (shape, color, size, texture, place))) > _MOST_WORDS or not _is_said(obj, place):
            continue
        if all([o.place for o in ref.find(scene)] == [obj.place] for scene in scenes):
            found.append(ref)
    return tuple(found)


def _is_said(obj: SceneObject, place: str | None) -> bool:
    """Whether a place word is true of a solid by itself: in its half of the image, in its row."""
    if place is None:
        return True
    if place in ("left", "right"):
        return (obj.column < 2) == (place == "left")
    return (obj.row == 1) == (place == "front")


def name_solids(request: Request, source: Scene, target: Scene) -> Named:
    """A request with the descriptions that the source scene allows.

    Args:
        source: the scene that the request is about.
        target: the scene that it leads to; a second request is about a scene between the two.
    """
    first = replace(request, then=None)
    names = {}
    for field in _REFS:
        ref = getattr(request, field)
        found = ref.find(source) if ref is not None else []
        if len(found) == 1:
            names[field] = descriptions(found[0], (source,))
    if request.kind is not None:
        names["kind"] = _kinds(request, target)
    then = None
    if request.then is not None:
        then = _name_second(request.then, source, target)
    return Named(first, names, then)


def _name_second(request: Request, source: Scene, target: Scene) -> Named:
    names = {}
    if request.ref is not None:
        (old,) = request.ref.find(source) or (None,)
        if old is not None:
            now = target.at(*old.place)
            rest = tuple(o for o in target.objects if o is not now)
            between = replace(target, objects=(*rest, old))
            names["ref"] = descriptions(old, (source, between))
    if request.kind is not None:
        names["kind"] = _kinds(request, target)
    return Named(request, names)


def _kinds(request: Request, target: Scene) -> tuple[Ref, ...]:
    """The new solid's description, with the size and texture that the target has said or unsaid."""
    kind = request.kind
    assert kind is not None
    made = [o for o in target.objects if kind.matches(o)]
    if request.op not in ("add", "replace") or len(made) != 1:
        return (kind,)
    sizes = (kind.size, made[0].size) if kind.size is None else (kind.size,)
    textures = (kind.texture, made[0].texture) if kind.texture is None else (kind.texture,)
    return tuple(replace(kind, size=s, texture=t) for s in sizes for t in textures)


def vary(named: Named, rng: np.random.Generator, plain: float = 0.6) -> Request:
    """The request with descriptions drawn anew.

    Args:
        plain: share of descriptions that stay as the request has them.
    """
    drawn: dict[str, Any] = {}
    for field, options in named.names.items():
        if options and rng.random() >= plain:
            drawn[field] = _draw(options, rng)
    then = vary(named.then, rng, plain) if named.then is not None else None
    return replace(named.request, then=then, **drawn)


def _draw(options: tuple[Ref, ...], rng: np.random.Generator) -> Ref:
    """A description; the more words it has, the rarer it is."""
    weights = np.array([0.45 ** sum(v is not None for v in _values(ref)) for ref in options])
    return options[int(rng.choice(len(options), p=weights / weights.sum()))]


def _values(ref: Ref) -> list[str | None]:
    return [getattr(ref, name) for name in _FIELDS]


def to_json(named: Named) -> str:
    """The column of a shard: one line of JSON."""
    return json.dumps(_to_dict(named), separators=(",", ":"))


def _to_dict(named: Named) -> dict[str, Any]:
    request = {k: v for k, v in asdict(named.request).items() if v is not None and k != "then"}
    for field in (*_REFS, "kind"):
        if field in request:
            request[field] = _values(getattr(named.request, field))
    found: dict[str, Any] = {"request": request}
    found["names"] = {field: [_values(r) for r in refs] for field, refs in named.names.items()}
    if named.then is not None:
        found["then"] = _to_dict(named.then)
    return found


def from_json(text: str) -> Named:
    """The inverse of `to_json`."""
    return _from_dict(json.loads(text))


def _from_dict(data: dict[str, Any]) -> Named:
    fields = dict(data["request"])
    for field in (*_REFS, "kind"):
        if field in fields:
            fields[field] = Ref(*fields[field])
    names = {field: tuple(Ref(*values) for values in refs) for field, refs in data["names"].items()}
    then = _from_dict(data["then"]) if "then" in data else None
    return Named(Request(**fields), names, then)
