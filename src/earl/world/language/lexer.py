"""Text to tokens: spelling and typos set right, synonyms replaced by what they mean.

A token is (symbol, value). A word without a meaning of its own is its own symbol, without a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from earl.world.language.tables import FRAMES, HELDOUT, WORDS

Token = tuple[str, str | None]

_WORD = re.compile(r"\{\w+\}|[a-z0-9]+(?:'[a-z]+)?|'[a-z]+")
_AMERICAN = {british: american for american, british in WORDS["british"].items()}
_FILLERS = {*FRAMES["fillers"], *HELDOUT["words"]["adjectives"], *HELDOUT["words"]["adverbs"]}
_VALUED = ("color", "tail", "place", "head", "num", "nth", "background", "style", "when", "side")
_PLAIN = {"shades": "<shade>", "images": "picture", "everything": "<all>", "more": "<more>"}
TYPO_LEAST = 5  # letters of a word in which a typo is looked for


def entries() -> Iterator[tuple[str, Token]]:
    """Every word, or group of words, with a meaning of its own, and its token."""
    for name in _VALUED:
        for table in (WORDS[name], HELDOUT["words"].get(name, {})):
            for value, texts in table.items():
                yield from ((text, (f"<{name}>", value)) for text in texts)
    for value, texts in (*WORDS["size"].items(), *WORDS["texture"].items()):
        yield from ((text, (f"<{value}>", None)) for text in texts)
    for relation, texts in WORDS["relation"].items():
        yield from ((text, _relation(relation)) for text in texts)
    for shape, texts in (*WORDS["shape"].items(), *HELDOUT["words"]["shape"].items(), ("", WORDS["objects"])):
        for text in texts:
            yield text, ("<noun>", shape)
            yield plural(text), ("<nouns>", shape)
    for name, symbol in _PLAIN.items():
        yield from ((text, (symbol, None)) for text in WORDS[name])


def _relation(relation: str) -> Token:
    if relation.startswith("to the "):
        return "<beside>", relation.split()[2]
    return ("<on>", None) if relation == "on top of" else ("<rel>", relation)


def plural(noun: str) -> str:
    return str(WORDS["plural"].get(noun, noun + "s"))


@lru_cache(maxsize=1)
def _table() -> tuple[dict[tuple[str, ...], Token], int]:
    table: dict[tuple[str, ...], Token] = {}
    for text, token in entries():
        table[tuple("a" if word == "an" else word for word in text.split())] = token
    table.pop(("can",), None)  # a noun only inside a description
    table.pop(("one",), None)
    return table, max(map(len, table))


def tokens(text: str, vocabulary: frozenset[str] | None = None) -> list[Token]:
    """The tokens of a text.

    Args:
        vocabulary: words to which others are corrected where they are one slip of the keyboard away.
    """
    lowered = text.lower().replace("’", "'").replace("`", "'")
    found = [word for raw in _WORD.findall(lowered) for word in _plain_words(raw, vocabulary)]
    return list(_typed([word for word in found if word not in _FILLERS]))


def _plain_words(word: str, vocabulary: frozenset[str] | None) -> Iterable[str]:
    if word in WORDS["contractions"]:
        return str(WORDS["contractions"][word]).split()
    word = "a" if word == "an" else _AMERICAN.get(word, word)
    if word.endswith("'s") and len(word) > 2:
        return (*_plain_words(word[:-2], vocabulary), "'s")
    if vocabulary is not None and word not in vocabulary:
        word = corrected(word, vocabulary)
    return (_AMERICAN.get(word, word),)


def _typed(found: list[str]) -> Iterator[Token]:
    table, longest = _table()
    place = 0
    while place < len(found):
        for length in range(min(longest, len(found) - place), 0, -1):
            token = table.get(tuple(found[place : place + length]))
            if token is not None:
                yield token
                place += length
                break
        else:
            yield found[place], None
            place += 1


@lru_cache(maxsize=1)
def _dropped(vocabulary: frozenset[str]) -> dict[str, str]:
    """Words with a letter left out, and the word; those of several words are left out."""
    found: dict[str, str] = {}
    for word in sorted(vocabulary):
        if len(word) >= TYPO_LEAST:
            for shorter in {word[:i] + word[i + 1 :] for i in range(len(word))}:
                found[shorter] = "" if found.get(shorter, word) != word else word
    return found


def corrected(word: str, vocabulary: frozenset[str]) -> str:
    """The one known word from which this one is a letter dropped, doubled or swapped with its neighbour."""
    if len(word) < TYPO_LEAST - 1:
        return word
    options = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    options |= {word[:i] + word[i + 1 :] for i in range(1, len(word)) if word[i] == word[i - 1]}
    known = {option for option in options if option in vocabulary and len(option) >= TYPO_LEAST}
    longer = _dropped(vocabulary).get(word)
    if longer:
        known.add(longer)
    return known.pop() if len(known) == 1 else word
