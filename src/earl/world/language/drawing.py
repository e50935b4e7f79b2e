"""Wordings drawn anew for training, from the request that a shard keeps.

Beside the sentences of the grammar: the plain wordings, and made-up words in places where the rest of the
sentence determines the edit, so that an unknown word does not cost what the other words say.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earl.errors import InstructionError
from earl.world.language.grammar import expand
from earl.world.language.lexer import tokens
from earl.world.language.naming import Named, from_json, vary
from earl.world.language.other import write_other
from earl.world.language.plain import plain_phrase
from earl.world.language.reading import describe
from earl.world.language.request import OTHER, Request
from earl.world.language.surface import chance, dress
from earl.world.language.tables import CORES
from earl.world.language.writing import Writer, phrase
from earl.world.sampling import choose as pick

PLAIN, MADE_UP = 0.2, 0.12
"""Shares of plain wordings, and of sentences with a made-up word."""
_SYLLABLES = (
    "b d f g k l m n p r s t v w z bl br cl dr fl gr pl qu sh st tr ch th",
    "a e i o u ab ack ad ain am an ar ash ed eel en er ess ick im in ist og ol on oop or ot uck um ust",
)
_ONSETS, _RIMES = (text.split() for text in _SYLLABLES)
_ENDINGS = ("", "", "", "er", "ly", "y", "ic", "al", "ous", "ing", "ed", "ize", "le", "et")


def draw_wording(request: str, rng: np.random.Generator) -> str:
    """A wording of a shard's request (the JSON of `naming.to_json`), or of a question that names solids."""
    if not request.startswith("{"):
        return draw_question(request, rng)
    named = from_json(request)
    if named.request.op == OTHER:
        return dress(write_other(rng), rng)
    draw = rng.random()
    if draw < PLAIN:
        return plain_phrase(_whole(named), rng)
    try:
        if draw < PLAIN + MADE_UP:
            return _with_made_up(named, rng)
        return phrase(vary(named, rng), rng)
    except InstructionError:
        return plain_phrase(_whole(named), rng)


def draw_question(question: str, rng: np.random.Generator) -> str:
    """A question "find the red cube" with other words for its solids; others stay as they are."""
    if not question.startswith("find ") or chance(rng, PLAIN):
        return question
    items = describe(tokens(question.removeprefix("find ")))
    if len(items) != 1:
        return question
    symbol, value = items[0]
    writer = Writer(rng)
    if symbol == "R":
        return f"find {writer.definite(value, 'find')}"
    if symbol == "L":
        return f"find {writer.fill('{ref}', Request('remove_related', relation=value[0], ref2=value[1]))}"
    if symbol == "T":
        return f"find {writer.fill('{ref}', Request('remove_nth', number=value[0], side=value[1]))}"
    return question


def _whole(named: Named) -> Request:
    then = named.then.request if named.then is not None else None
    return replace(named.request, then=then)


def made_up_word(rng: np.random.Generator) -> str:
    """A word that looks like English and is none that the world knows."""
    syllables = "".join(pick(rng, _ONSETS) + pick(rng, _RIMES) for _ in range(1 if chance(rng, 0.4) else 2))
    return syllables + pick(rng, _ENDINGS)


def _with_made_up(named: Named, rng: np.random.Generator) -> str:
    word, request = made_up_word(rng), named.request
    ref, names = request.ref, named.names.get("ref", ())
    draw = rng.random()
    sentences = CORES.get(request.op, {}).get("made_up")
    if draw < 0.35 and named.then is None and sentences:
        writer = Writer(rng)
        varied = vary(named, rng)
        template = pick(rng, expand(pick(rng, sentences))).replace("{verb}", word)
        return dress(writer.fill(template, varied), rng)
    if draw < 0.55 and ref is not None and replace(ref, shape=None) in names:
        return Writer(rng, noun=word).sentence(_whole(named))
    if draw < 0.75 and ref is not None and replace(ref, color=None) in names:
        return Writer(rng, color=word).sentence(_whole(named))
    if draw < 0.9 and ref is not None:
        return Writer(rng, adjective=word).sentence(vary(named, rng))
    text = phrase(vary(named, rng), rng)
    return f"{word} {text}" if chance(rng, 0.5) else f"{text.rstrip('.!?')} {word}"
