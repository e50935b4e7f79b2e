"""The language of edit requests: records, sentences drawn from a grammar, and reading them back."""

from earl.world.language.naming import Named, from_json, name_solids, to_json, vary
from earl.world.language.plain import JOINTS, TEMPLATES, plain_phrase
from earl.world.language.reading import parse
from earl.world.language.request import (
    BACKGROUND_WORDS,
    NTHS,
    NUMBERS,
    OTHER,
    PLACES,
    RELATIONS,
    SIDES,
    STYLE_WORDS,
    Ref,
    Request,
    place_words,
)
from earl.world.language.writing import equal, phrase, phrase_constructions, phrase_pairs, phrase_unseen

__all__ = [
    "BACKGROUND_WORDS",
    "JOINTS",
    "NTHS",
    "NUMBERS",
    "OTHER",
    "PLACES",
    "RELATIONS",
    "SIDES",
    "STYLE_WORDS",
    "TEMPLATES",
    "Named",
    "Ref",
    "Request",
    "equal",
    "from_json",
    "name_solids",
    "parse",
    "phrase",
    "phrase_constructions",
    "phrase_pairs",
    "phrase_unseen",
    "place_words",
    "plain_phrase",
    "to_json",
    "vary",
]
