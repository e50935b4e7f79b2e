"""Sentences that ask for nothing of this world; the right answer leaves the image as it is."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product

import numpy as np

from earl.world.language.tables import OTHER
from earl.world.sampling import choose

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _templates(heldout: bool) -> list[str]:
    """Sentences about a thing; those of the training part are held out with a thing that is."""
    own: list[str] = OTHER["heldout" if heldout else "train"]["templates"]
    return [*own, *OTHER["train"]["templates"]] if heldout else own


def other_sentences(heldout: bool = False) -> tuple[str, ...]:
    """All sentences of the training part, or of the held-out part; the two share none."""
    part = OTHER["heldout" if heldout else "train"]
    made = (s.format(t=thing) for s, thing in product(_templates(heldout), part["things"]))
    return (*part["talk"], *part["foreign"], *made)


def write_other(rng: np.random.Generator, heldout: bool = False) -> str:
    """One such sentence: of a thing unknown to the world, of talk, in another language, or of no language."""
    part = OTHER["heldout" if heldout else "train"]
    kind = rng.random()
    if kind < 0.35:
        return str(choose(rng, part["talk"]))
    if kind < 0.55:
        return str(choose(rng, part["foreign"]))
    if kind < 0.65 and not heldout:
        return _gibberish(rng)
    return choose(rng, _templates(heldout)).format(t=choose(rng, part["things"]))


def _gibberish(rng: np.random.Generator) -> str:
    words = []
    for _ in range(int(rng.integers(1, 6))):
        words.append("".join(_LETTERS[int(i)] for i in rng.integers(26, size=int(rng.integers(2, 9)))))
    return " ".join(words)


def is_other(text: str) -> bool:
    """Whether a text is one of these sentences, gibberish aside."""
    return plain_text(text) in _known()


@lru_cache(maxsize=1)
def _known() -> frozenset[str]:
    return frozenset(map(plain_text, (*other_sentences(), *other_sentences(heldout=True))))


def plain_text(text: str) -> str:
    """The words of a text without capitals and punctuation."""
    return re.sub(r"[\W_]+", " ", text.lower()).strip()
