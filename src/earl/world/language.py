"""The words of the world: an edit request as a record, as a sentence, and back.

Each operation has several wordings. A wording is a template with typed slots; the same
template writes a sentence (`phrase`) and reads it (`parse`), so that whatever the world can
say, the verifier can understand from the text alone.

Slots: {ref} "the small striped red cube" · {ref2}, {ref3} the same · {kind} "a red cube" ·
{kinds} "red cubes" · {color} {background} {style} {number} {nth} {side} {relation}.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from earl.errors import InstructionError
from earl.world.scene import BACKGROUNDS, COLORS, SHAPES, SIZES, STYLES, SceneObject

NUMBERS = ("one", "two", "three", "four", "five")
NTHS = ("first", "second", "third", "fourth")
SIDES = ("left", "right")
RELATIONS = ("behind", "in front of", "to the left of", "to the right of", "on top of")


@dataclass(frozen=True, slots=True)
class Ref:
    """What words say of a solid; None where they say nothing."""

    shape: str | None = None
    color: str | None = None
    size: str | None = None
    texture: str | None = None

    def matches(self, obj: SceneObject) -> bool:
        """Whether a solid fits the words."""
        return (
            self.shape in (None, obj.shape)
            and self.color in (None, obj.color)
            and self.size in (None, obj.size)
            and self.texture in (None, obj.texture)
        )

    @classmethod
    def of(cls, obj: SceneObject) -> Ref:
        """Colour and shape, the usual way to name a solid."""
        return cls(shape=obj.shape, color=obj.color)

    def words(self, plural: bool = False) -> str:
        """The words without an article."""
        noun = (self.shape or "object") + ("s" if plural else "")
        return " ".join(w for w in (self.size, self.texture, self.color, noun) if w)


@dataclass(frozen=True, slots=True)
class Request:
    """One edit as the instruction states it. `then` holds the second request of a double one."""

    op: str
    ref: Ref | None = None
    ref2: Ref | None = None
    ref3: Ref | None = None
    kind: Ref | None = None
    value: str | None = None
    number: int | None = None
    side: str | None = None
    relation: str | None = None
    then: Request | None = None


BACKGROUND_WORDS = {"meadow": "a meadow", "desert": "a desert", "snow": "a snowy field", "studio": "a studio"}
STYLE_WORDS = {
    "day": "daytime",
    "night": "night",
    "sunset": "sunset",
    "sepia": "a sepia photo",
    "pencil": "a pencil drawing",
}

TEMPLATES: dict[str, tuple[str, ...]] = {
    "add": ("add {kind}", "place {kind} in the scene", "put {kind} in the picture"),
    "remove": ("remove {ref}", "take away {ref}", "delete {ref}", "get rid of {ref}"),
    "replace": ("replace {ref} with {kind}", "turn {ref} into {kind}", "change {ref} to {kind}"),
    "color": ("make {ref} {color}", "paint {ref} {color}", "change the color of {ref} to {color}"),
    "shrink": ("make {ref} smaller", "shrink {ref}"),
    "enlarge": ("make {ref} bigger", "enlarge {ref}"),
    "stripe": ("put stripes on {ref}", "make {ref} striped"),
    "unstripe": ("remove the stripes from {ref}", "make {ref} plain"),
    "background": ("change the background to {background}", "move the scene to {background}"),
    "style": ("make it {style}", "change the style to {style}"),
    "exactly": ("make it exactly {number} {kinds}", "there should be exactly {number} {kinds}"),
    "one_more": ("add one more {kind1}", "add another {kind1}"),
    "remove_nth": ("remove the {nth} object from the {side}", "take away the {nth} object from the {side}"),
    "move": ("move {ref} to the {side} of {ref2}", "put {ref} to the {side} of {ref2}"),
    "swap": ("swap {ref} and {ref2}", "exchange {ref} and {ref2}"),
    "between": ("put {ref} between {ref2} and {ref3}", "move {ref} between {ref2} and {ref3}"),
    "stack": ("stack {ref} on {ref2}", "put {ref} on top of {ref2}"),
    "roll": ("roll {ref} to the {side}", "let {ref} roll to the {side}"),
    "topple": ("topple {ref}", "knock over {ref}"),
    "open": ("open {ref}", "lift the lid of {ref}"),
    "gather": ("gather all objects in a row", "line up all objects in a row"),
    "remove_related": ("remove the one {relation} {ref2}", "take away the one {relation} {ref2}"),
    "color_related": ("make the one {relation} {ref2} {color}", "paint the one {relation} {ref2} {color}"),
}
JOINTS = (" and then ", ", and ")

_SHAPE = "|".join((*SHAPES, "object"))
_ATTRIBUTES = (
    rf"(?:(?P<P_size>{'|'.join(SIZES)}) )?"
    r"(?:(?P<P_texture>plain|striped) )?"
    rf"(?:(?P<P_color>{'|'.join(COLORS)}) )?"
)


def _ref_pattern(prefix: str, article: str, plural: str = "") -> str:
    return article + _ATTRIBUTES.replace("P_", prefix + "_") + rf"(?P<{prefix}_shape>{_SHAPE}){plural}"


_SLOTS = {
    "ref": _ref_pattern("ref", "the "),
    "ref2": _ref_pattern("ref2", "the "),
    "ref3": _ref_pattern("ref3", "the "),
    "kind": _ref_pattern("kind", "an? "),
    "kind1": _ref_pattern("kind", ""),
    "kinds": _ref_pattern("kind", "", "s?"),
    "color": rf"(?P<value>{'|'.join(COLORS)})",
    "background": rf"(?P<background>{'|'.join(BACKGROUND_WORDS.values())})",
    "style": rf"(?P<style>{'|'.join(STYLE_WORDS.values())})",
    "number": rf"(?P<number>{'|'.join(NUMBERS)})",
    "nth": rf"(?P<nth>{'|'.join(NTHS)})",
    "side": rf"(?P<side>{'|'.join(SIDES)})",
    "relation": rf"(?P<relation>{'|'.join(RELATIONS)})",
}


@lru_cache(maxsize=1)
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    found = []
    for op, wordings in TEMPLATES.items():
        for wording in wordings:
            pieces = re.split(r"\{(\w+)\}", wording)
            regex = "".join(re.escape(p) if i % 2 == 0 else _SLOTS[p] for i, p in enumerate(pieces))
            found.append((op, re.compile(regex)))
    return found


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def phrase(request: Request, rng: np.random.Generator, wording: int | None = None) -> str:
    """Write a request as a sentence, in one of its wordings (drawn from `rng` unless told)."""
    if request.then is not None:
        first = phrase(_without_then(request), rng, wording)
        joint = JOINTS[int(rng.integers(len(JOINTS)))]
        return first + joint + phrase(request.then, rng, wording)
    wordings = TEMPLATES[request.op]
    template = wordings[int(rng.integers(len(wordings))) if wording is None else wording % len(wordings)]
    words: dict[str, str] = {}
    for name in ("ref", "ref2", "ref3"):
        ref = getattr(request, name)
        if ref is not None:
            words[name] = "the " + ref.words()
    if request.kind is not None:
        words["kind"], words["kind1"] = _article(request.kind.words()), request.kind.words()
        words["kinds"] = request.kind.words(plural=request.number != 1)
    if request.value is not None:
        words["color"] = request.value
        words["background"] = BACKGROUND_WORDS.get(request.value, "")
        words["style"] = STYLE_WORDS.get(request.value, "")
    if request.number is not None:
        words["number"], words["nth"] = NUMBERS[request.number - 1], NTHS[min(request.number, 4) - 1]
    words["side"], words["relation"] = request.side or "", request.relation or ""
    return template.format(**words)


def _without_then(request: Request) -> Request:
    return replace(request, then=None)


def parse(instruction: str) -> Request:
    """Read a sentence of the world.

    Raises:
        InstructionError: the sentence is in none of the world's wordings.
    """
    text = re.sub(r"\s+", " ", instruction.strip().lower()).rstrip(".!")
    request = _parse_simple(text)
    if request is not None:
        return request
    for joint in JOINTS:
        for match in re.finditer(re.escape(joint), text):
            first, second = _parse_simple(text[: match.start()]), _parse_simple(text[match.end() :])
            if first is not None and second is not None:
                return replace(first, then=second)
    raise InstructionError(
        f"the instruction {instruction!r} is in none of the world's wordings; "
        'say for example "remove the red cube" (see docs/world.md for all of them)'
    )


def _parse_simple(text: str) -> Request | None:
    for op, pattern in _patterns():
        match = pattern.fullmatch(text)
        if match:
            return _request(op, match.groupdict())
    return None


def _request(op: str, groups: dict[str, str | None]) -> Request:
    def ref(prefix: str) -> Ref | None:
        if groups.get(f"{prefix}_shape") is None:
            return None
        shape = groups[f"{prefix}_shape"]
        return Ref(
            None if shape == "object" else shape,
            groups[f"{prefix}_color"],
            groups[f"{prefix}_size"],
            groups[f"{prefix}_texture"],
        )

    fields: dict[str, Any] = {name: ref(name) for name in ("ref", "ref2", "ref3", "kind")}
    value = groups.get("value")
    if groups.get("background"):
        value = next(k for k, w in BACKGROUND_WORDS.items() if w == groups["background"])
    if groups.get("style"):
        value = next(k for k, w in STYLE_WORDS.items() if w == groups["style"])
    number = None
    if groups.get("number"):
        number = NUMBERS.index(str(groups["number"])) + 1
    if groups.get("nth"):
        number = NTHS.index(str(groups["nth"])) + 1
    return Request(
        op, value=value, number=number, side=groups.get("side"), relation=groups.get("relation"), **fields
    )


def place_words(obj: SceneObject) -> str:
    """Where a solid stands, in words."""
    row = "front" if obj.row == 1 else "back"
    column = ("far left", "left", "right", "far right")[obj.column]
    return f"on top at the {row} {column}" if obj.level else f"at the {row} {column}"


assert set(BACKGROUND_WORDS) == set(BACKGROUNDS) and set(STYLE_WORDS) == set(STYLES)
