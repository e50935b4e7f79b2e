"""The look of a sentence: capitals, punctuation, British spelling, pleasantries, slips of the keyboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from earl.world.language.lexer import TYPO_LEAST
from earl.world.language.tables import FRAMES, WORDS
from earl.world.sampling import choose as pick


def chance(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def dress(text: str, rng: np.random.Generator, pleasantries: Mapping[str, Sequence[str]] = FRAMES) -> str:
    """A plain lower-case sentence with pleasantries, spelling, punctuation and capitals drawn anew."""
    asks = text.split(" ", 1)[0] in FRAMES["asks"]
    text = _fillers(text, rng)
    if chance(rng, 0.3):
        text = " ".join(WORDS["british"].get(word, word) for word in text.split(" "))
    if chance(rng, 0.1):
        text = (
            f"{pick(rng, pleasantries['greetings'])}{pick(rng, (', ', ' ', '! ', ': ', ' - ', '. '))}{text}"
        )
    if chance(rng, 0.08):
        text = f"{text}{pick(rng, (', ', ' ', '. ', ' - '))}{pick(rng, pleasantries['farewells'])}"
    if chance(rng, 0.08):
        text = typo(text, rng)
    if chance(rng, 0.03):
        text = text.replace("don't", "dont").replace("doesn't", "doesnt").replace("let's", "lets")
    return _capitals(text + _end(asks, rng), rng)


def _fillers(text: str, rng: np.random.Generator) -> str:
    if not chance(rng, 0.3):
        return text
    filler = "please" if chance(rng, 0.7) else pick(rng, FRAMES["fillers"])
    words = text.split(" ")
    draw = rng.random()
    if draw < 0.4:
        return f"{filler}{pick(rng, (' ', ' ', ', '))}{text}"
    if draw < 0.7:
        return f"{text}{pick(rng, (' ', ', '))}{filler}"
    place = 2 if len(words) > 3 and words[0] in FRAMES["asks"] and words[1] in ("you", "we", "i") else 0
    return " ".join((*words[:place], filler, *words[place:]))


def typo(text: str, rng: np.random.Generator) -> str:
    """One letter of one word dropped, doubled or swapped with the next."""
    words = text.split(" ")
    places = [
        i
        for i, word in enumerate(words)
        if len(word) > TYPO_LEAST and word.isalpha() and word not in WORDS["contractions"]
    ]
    if not places:
        return text
    place = pick(rng, places)
    word, at = words[place], int(rng.integers(1, len(words[place]) - 1))
    kind = int(rng.integers(3))
    if kind == 0:
        word = word[:at] + word[at + 1 :]
    elif kind == 1:
        word = word[:at] + word[at] + word[at:]
    else:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    words[place] = word
    return " ".join(words)


def _end(asks: bool, rng: np.random.Generator) -> str:
    if asks and chance(rng, 0.6):
        return "?"
    draw = rng.random()
    return "." if draw < 0.3 else "!" if draw < 0.38 else "..." if draw < 0.39 else ""


def _capitals(text: str, rng: np.random.Generator) -> str:
    draw = rng.random()
    if draw < 0.45:
        return text
    if draw < 0.9:
        text = text[0].upper() + text[1:]
        return " ".join("I" + word[1:] if word in ("i", "i'd", "i'm") else word for word in text.split(" "))
    return text.upper() if draw < 0.95 else text.title() if draw < 0.98 else text.capitalize()
