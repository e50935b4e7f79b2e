"""The plain wordings: two to four templates for each operation, which tasks have as their own instruction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earl.world.language.request import OTHER, Request
from earl.world.language.tables import OPERATIONS, WORDS, usual
from earl.world.sampling import choose

JOINTS = (" and then ", ", and ")


def plain_phrase(request: Request, rng: np.random.Generator) -> str:
    """Write a request as a sentence, in one of its wordings."""
    if request.then is not None:
        first = plain_phrase(replace(request, then=None), rng)
        return first + choose(rng, JOINTS) + plain_phrase(request.then, rng)
    if request.op == OTHER:
        return "keep the picture as it is"
    template: str = choose(rng, OPERATIONS[request.op]["plain"])
    words: dict[str, str] = {}
    for name in ("ref", "ref2", "ref3"):
        ref = getattr(request, name)
        if ref is not None:
            words[name] = "the " + ref.words()
    if request.kind is not None:
        words["kind1"] = request.kind.words()
        words["kind"] = f"{'an' if words['kind1'][0] in 'aeiou' else 'a'} {words['kind1']}"
        words["kinds"] = request.kind.words(plural=request.number != 1)
    if request.value is not None:
        words["color"] = request.value
        for name in ("background", "style"):
            if request.value in WORDS[name]:
                words[name] = usual(name, request.value)
    if request.number is not None:
        words["number"], words["nth"] = usual("num", request.number), usual("nth", min(request.number, 4))
    words["side"], words["relation"] = request.side or "", request.relation or ""
    return template.format(**words)
