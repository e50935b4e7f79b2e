"""The plain wordings: two to four templates for each operation, which tasks have as their own instruction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earl.world.language.request import BACKGROUND_WORDS, NTHS, NUMBERS, OTHER, STYLE_WORDS, Request

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


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def plain_phrase(request: Request, rng: np.random.Generator, wording: int | None = None) -> str:
    """Write a request as a sentence, in one of its wordings (drawn from `rng` unless told)."""
    if request.then is not None:
        first = plain_phrase(_without_then(request), rng, wording)
        joint = JOINTS[int(rng.integers(len(JOINTS)))]
        return first + joint + plain_phrase(request.then, rng, wording)
    if request.op == OTHER:
        return "keep the picture as it is"
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
