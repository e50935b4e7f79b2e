"""Plans: a short chain of thought that says what an edit changes where, and its steps.

For example "red cube front left: blue sphere; nothing back right: small green cone", "background: desert",
or "nothing" where nothing changes. What is usual (large, plain, upright) is not said.
"""

from __future__ import annotations

import re

import numpy as np

from earl.world.language.plain import plain_phrase
from earl.world.language.request import Ref, Request
from earl.world.scene import BACKGROUNDS, COLORS, SHAPES, SIZES, STYLES, TEXTURES, Scene, SceneObject

_KIND = (
    f"(?:(?:{'|'.join(SIZES)}) )?(?:(?:{'|'.join(TEXTURES)}) )?(?:(?:toppled|open) )?"
    f"(?:{'|'.join(COLORS)}) (?:{'|'.join(SHAPES)})|nothing"
)
_PART = re.compile(f"({_KIND}) (?:back|front) (?:far )?(?:left|right)(?: top)?: ({_KIND})")
_WHOLE = re.compile(f"(background): ({'|'.join(BACKGROUNDS)})|(style): ({'|'.join(STYLES)})")


def plan(scene: Scene, target: Scene) -> str:
    """Every place whose content changes, what stands there, and what will."""
    parts = []
    if scene.background != target.background:
        parts.append(f"background: {target.background}")
    if scene.style != target.style:
        parts.append(f"style: {target.style}")
    for place in sorted({o.place for o in (*scene.objects, *target.objects)}):
        old, new = scene.at(*place), target.at(*place)
        if (old and old.kind) != (new and new.kind):
            parts.append(f"{_short(old)} {_place(*place)}: {_short(new)}")
    return "; ".join(parts) or "nothing"


def list_solids(scene: Scene, rng: np.random.Generator) -> str:
    """The solids in random order, each with its place as in a plan: "red cube front left; small green cone
    back right"."""
    return "; ".join(
        f"{_short(scene.objects[i])} {_place(*scene.objects[i].place)}"
        for i in rng.permutation(len(scene.objects))
    )


def _short(obj: SceneObject | None) -> str:
    if obj is None:
        return "nothing"
    said = [w for w in (obj.size, obj.texture, obj.pose) if w not in ("large", "plain", "upright")]
    return " ".join([*said, obj.color, obj.shape])


def _place(row: int, column: int, level: int) -> str:
    where = f"{('back', 'front')[row]} {('far left', 'left', 'right', 'far right')[column]}"
    return f"{where} top" if level else where


def steps(text: str) -> list[tuple[str, str]]:
    """A plan of several changes as edits of one change each: (instruction, plan), in their order.

    Empty for a plan of one change, for a solid that only moves (it is drawn better at once), and for what is
    no plan.
    """
    parts = text.split("; ")
    requests = [request for part in parts if (request := requested(part))]
    moves = sorted(request.op for request in requests) == ["add", "remove"]
    moves = moves and len({request.ref or request.kind for request in requests}) == 1
    if len(parts) < 2 or len(requests) < len(parts) or moves:
        return []
    words = [plain_phrase(request, np.random.default_rng(0)) for request in requests]
    return list(zip(words, parts, strict=True))


def requested(part: str) -> Request | None:
    """What one part of a plan asks for; None where the text is none."""
    if whole := _WHOLE.fullmatch(part):
        return Request(whole[1] or whole[3], value=whole[2] or whole[4])
    found = _PART.fullmatch(part)
    if found is None or found[1] == found[2]:
        return None
    old, new = found[1], found[2]
    if old == "nothing":
        return Request("add", kind=_ref(new))
    if new == "nothing":
        return Request("remove", ref=_ref(old))
    was, will, poses = _ref(old), _ref(new), {"toppled": "topple", "open": "open"}
    posed = [op for word, op in poses.items() if word in new.split()]
    if [word for word in old.split() if word in poses] != [word for word in new.split() if word in poses]:
        same = was == will and posed
        return Request(posed[0], ref=was) if same else Request("replace", ref=was, kind=will)
    differ = [
        name for name in ("shape", "color", "size", "texture") if getattr(was, name) != getattr(will, name)
    ]
    if differ == ["color"]:
        return Request("color", ref=was, value=will.color)
    if differ == ["size"]:
        return Request("shrink" if will.size else "enlarge", ref=was)
    if differ == ["texture"]:
        return Request("stripe" if will.texture else "unstripe", ref=was)
    return Request("replace", ref=was, kind=will)


def _ref(kind: str) -> Ref:
    *said, color, shape = kind.split()
    size, texture = ([w for w in said if w in words] for words in (SIZES, TEXTURES))
    return Ref(shape, color, size[0] if size else None, texture[0] if texture else None)
