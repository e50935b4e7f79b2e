"""Request to text: `phrase` draws a sentence of the grammar, its words and its look."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from zlib import crc32

import numpy as np

from earl.errors import InstructionError
from earl.world.language import frames, heldout, words
from earl.world.language import heldout_words as unseen
from earl.world.language.cores import CORES, SAME_CORES, STYLE_SENTENCES
from earl.world.language.grammar import expand, gerund
from earl.world.language.lexer import plural
from earl.world.language.other import write_other
from earl.world.language.reading import parse
from earl.world.language.request import OTHER, Ref, Request
from earl.world.language.surface import chance, dress
from earl.world.sampling import choose as pick

_TRIES = 20
_USUAL = 0.45
"""Share of words that are the usual ones, where there are others."""


def phrase(request: Request, rng: np.random.Generator) -> str:
    """One sentence of the language of training, which `parse` reads back as the same request."""
    return _checked(request, rng, "train")


def phrase_pairs(request: Request, rng: np.random.Generator) -> str:
    """A sentence with pairs of operation and word that training does not show together."""
    return _checked(request, rng, "pairs")


def phrase_constructions(request: Request, rng: np.random.Generator) -> str:
    """A sentence of a construction that training does not show, in words that it does show."""
    return _checked(request, rng, "constructions")


def _checked(request: Request, rng: np.random.Generator, mode: str) -> str:
    for _ in range(_TRIES):
        text = Writer(rng, mode).sentence(request)
        try:
            if equal(parse(text), request):
                return text
        except InstructionError:
            continue
    raise InstructionError(f"no wording was found for {request}")


def equal(one: Request, other: Request) -> bool:
    """Whether two requests ask for the same: a swap and a gap have no order of their two solids."""
    return _ordered(one) == _ordered(other)


def _ordered(request: Request) -> Request:
    pair = {"swap": ("ref", "ref2"), "between": ("ref2", "ref3")}.get(request.op)
    then = _ordered(request.then) if request.then is not None else None
    if pair is None:
        return replace(request, then=then)
    low, high = sorted((getattr(request, name) for name in pair), key=repr)
    return replace(request, then=then, **dict(zip(pair, (low, high), strict=True)))


def held_out_pair(op: str, word: str) -> bool:
    """Whether training never shows this synonym in this operation."""
    return crc32(f"{op}/{word}".encode()) % 8 == 0


@cache
def _templates(op: str, mode: str) -> dict[str, tuple[str, ...]]:
    if mode == "constructions":
        return {"whole": heldout.SENTENCES[op]}
    if mode == "verbs":
        return {"whole": unseen.VERBS[op]}
    cores = CORES[op]
    return {form: getattr(cores, form) for form in ("do", "done", "act", "whole")}


def _suits(template: str, request: Request) -> bool:
    """Whether a sentence can be filled: a possessive needs a description that ends with its noun, "no more
    {bare}" needs one that is not by place or relation alone."""
    if "} 's" in template:
        return request.ref is not None and request.ref.place is None and request.ref.texture is None
    return "{bare}" not in template or request.ref is not None or request.op == "one_more"


class Writer:
    """Draws one sentence.

    Args:
        mode: "train", "pairs", "constructions", or "verbs" for unseen verbs.
        noun, color: an unseen word that stands for the first solid's shape or colour.
        adjective: an unseen word put before the first solid's noun.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        mode: str = "train",
        *,
        noun: str = "",
        color: str = "",
        adjective: str = "",
    ) -> None:
        self.rng, self.mode = rng, mode
        self.noun, self.color, self.adjective = noun, color, adjective
        self.articles = mode == "constructions" or not chance(rng, 0.05)

    def sentence(self, request: Request) -> str:
        if request.op == OTHER:
            return dress(write_other(self.rng, heldout=self.mode != "train"), self.rng)
        text = self.clause(replace(request, then=None))
        held = self.mode == "constructions"
        if request.then is not None:
            joint = pick(self.rng, heldout.JOINTS if held and chance(self.rng, 0.3) else frames.JOINTS)
            comma = (
                pick(self.rng, ("", ",", "", ".", ";"))
                if joint != "then"
                else pick(self.rng, (",", ";", "."))
            )
            plain = chance(self.rng, 0.6) and not held
            text = f"{text}{comma} {joint} {self.clause(request.then, plain=plain)}"
        if held:
            return dress(text, self.rng, greetings=heldout.GREETINGS, farewells=heldout.FAREWELLS)
        return dress(text, self.rng)

    def clause(self, request: Request, *, plain: bool = False) -> str:
        op = SAME_CORES.get(request.op, request.op)
        if op == "style" and self.mode in ("train", "pairs") and chance(self.rng, 0.08):
            return pick(self.rng, STYLE_SENTENCES[str(request.value)])
        for _ in range(_TRIES):
            template = self._template(op, plain)
            if _suits(template, request):
                break
        return self.fill(template, request)

    def _template(self, op: str, plain: bool) -> str:
        """A sentence with slots, in its frame."""
        templates = _templates(op, self.mode)
        form = self._form(templates, plain)
        template = pick(self.rng, expand(pick(self.rng, templates[form])))
        if form == "do" and not plain:
            template = self._command(template)
        elif form in ("done", "act"):
            frame = pick(self.rng, expand(pick(self.rng, frames.PASSIVES if form == "done" else frames.ACTS)))
            subject = pick(self.rng, expand(CORES[op].subject))
            template = frame.replace("{it}", subject).replace(f"{{{form}}}", template)
        return template

    def _form(self, templates: dict[str, tuple[str, ...]], plain: bool) -> str:
        if "do" not in templates:
            return "whole"
        if plain:
            return "do"
        draw = self.rng.random()
        return "do" if draw < 0.5 else "done" if draw < 0.65 else "act" if draw < 0.8 else "whole"

    def _command(self, core: str) -> str:
        draw = self.rng.random()
        if draw < 0.55:
            return core
        if draw < 0.92:
            return pick(self.rng, expand(pick(self.rng, frames.COMMANDS))).replace("{do}", core)
        return pick(self.rng, expand(pick(self.rng, frames.GERUNDS))).replace("{doing}", gerund(core))

    def fill(self, template: str, request: Request) -> str:
        """A template with its slots in words."""
        template = template.replace("{more}", "{more} {bare}")
        if "the {side}" not in template and "its {side}" not in template:
            template = template.replace("{side}", str(request.side))  # "roll it left"
        text = re.sub(r"\{(\w+)\}", lambda match: self._slot(match.group(1), request), template)
        if "picture" in text and chance(self.rng, 0.5) and "imagine" not in text:
            text = re.sub(
                r"\b(the|this) picture\b", lambda m: f"{m.group(1)} {pick(self.rng, words.IMAGES)}", text
            )
        text = re.sub(r"\ba (?=[aeiou])", "an ", text)
        return re.sub(r" '", "'", text)

    def _slot(self, name: str, request: Request) -> str:
        op = request.op
        if name == "ref" and op == "remove_nth":
            nth = self.word(words.NTHS, str(request.number), op)
            return f"the {nth} {pick(self.rng, ('object', 'one', 'thing', 'item'))} from the {request.side}"
        if name == "ref" and op in ("remove_related", "color_related"):
            return self._related(request)
        if name in ("ref", "ref2", "ref3"):
            return self.definite(getattr(request, name), op)
        if name in ("kind", "bare", "count", "kinds"):
            return self._described(name, request)
        if name == "more":
            return pick(self.rng, words.MORE)
        if name == "number":
            return self.word(words.NUMBERS, str(request.number), op)
        if name == "all":
            return pick(self.rng, words.EVERYTHING)
        if name in ("side", "beside", "on"):
            return self._direction(name, request)
        tables = {
            "color": words.COLORS,
            "background": words.BACKGROUNDS,
            "style": words.STYLES,
            "when": words.WHEN,
        }
        if name in tables:
            return self.word(tables[name], str(request.value), op)
        return self.word(words.SIZES if name in words.SIZES else words.TEXTURES, name, op)

    def _direction(self, name: str, request: Request) -> str:
        if name == "side":
            return self.word(words.SIDES, str(request.side), request.op)
        relation = "on top of" if name == "on" else f"to the {request.side} of"
        return self.word(words.RELATIONS, relation, request.op)

    def _related(self, request: Request) -> str:
        assert request.ref2 is not None
        relation = self.word(words.RELATIONS, str(request.relation), request.op)
        head = pick(self.rng, ("the one", "the object", "the thing", "the item", "the one that is"))
        return f"{head} {relation} {self.definite(request.ref2, request.op)}"

    def _described(self, name: str, request: Request) -> str:
        ref = request.kind if request.op in ("add", "replace", "exactly", "one_more") else request.ref
        assert ref is not None, "`_suits` looks at this"
        number = request.number or 1
        text = self.noun_phrase(ref, request.op, plural=name == "kinds" or (name == "count" and number != 1))
        if name == "count":
            return f"{self.word(words.NUMBERS, str(number), request.op)} {text}"
        return f"a {text}" if name == "kind" and self.articles else text

    def definite(self, ref: Ref, op: str) -> str:
        """A solid that is there, with the article or without."""
        place = ref.place
        if place is not None and chance(self.rng, 0.5):
            head = self.word(words.PLACE_HEADS, place, op)
            return f"the {head} {self.noun_phrase(replace(ref, place=None), op)}"
        text = self.noun_phrase(ref, op)
        if not self.articles and (ref.shape or ref.color):
            return text
        return f"{'that' if chance(self.rng, 0.03) else 'the'} {text}"

    def noun_phrase(self, ref: Ref, op: str, plural: bool = False) -> str:
        """A description without its article."""
        noun, color, adjective, self.noun, self.color, self.adjective = (
            self.noun,
            self.color,
            self.adjective,
            "",
            "",
            "",
        )
        parts, tail = [], ""
        if adjective:
            parts.append(adjective)
        if ref.size:
            parts.append(self.word(words.SIZES, ref.size, op))
        if ref.texture and chance(self.rng, 0.75):
            parts.append(self.word(words.TEXTURES, ref.texture, op))
        elif ref.texture:
            tail = " " + pick(self.rng, words.TEXTURE_TAILS[ref.texture])
        if ref.color:
            shade = pick(self.rng, words.SHADES) + " " if chance(self.rng, 0.04) and not color else ""
            parts.append(color or shade + self.word(words.COLORS, ref.color, op))
        if len(parts) > 1 and chance(self.rng, 0.1):
            parts.reverse()
        name = noun or (
            self.word(words.SHAPES, ref.shape, op)
            if ref.shape
            else pick(self.rng, words.OBJECTS if op != "x" else ())
        )
        text = " ".join((*parts, _plural(name) if plural else name)) + tail
        return f"{text} {self.word(words.PLACE_TAILS, ref.place, op)}" if ref.place else text

    def word(self, table: dict[str, tuple[str, ...]], value: str, op: str) -> str:
        """A word for a value, by the rules of the mode."""
        options = table[value]
        held = [option for option in options[1:] if held_out_pair(op, option)]
        if self.mode == "pairs" and held:
            return pick(self.rng, held)
        free = [option for option in options if option not in held]
        if self.mode == "train" and chance(self.rng, _USUAL):
            return options[0]
        return pick(self.rng, free)


def _plural(noun: str) -> str:
    return plural(noun)


def phrase_unseen(request: Request, names: dict[str, tuple[Ref, ...]], rng: np.random.Generator) -> str:
    """A sentence with one word that training never shows, where the rest still determines the edit.

    Args:
        names: descriptions that name the request's solids, see `naming.Named`.
    """
    for _ in range(_TRIES):
        kind = pick(rng, ("noun", "color", "adjective", "verb", "adverb"))
        writer = _unseen_writer(kind, request, names, rng)
        if writer is None:
            continue
        text = writer.sentence(request)
        if kind == "adverb":
            text = (
                f"{pick(rng, unseen.ADVERBS)} {text}"
                if chance(rng, 0.5)
                else f"{text.rstrip('.!?')} {pick(rng, unseen.ADVERBS)}"
            )
        try:
            if equal(parse(text), request):
                return text
        except InstructionError:
            continue
    raise InstructionError(f"no wording with an unseen word was found for {request}")


def _unseen_writer(
    kind: str, request: Request, names: dict[str, tuple[Ref, ...]], rng: np.random.Generator
) -> Writer | None:
    ref = request.ref
    if kind == "verb":
        op = SAME_CORES.get(request.op, request.op)
        return Writer(rng, "verbs") if op in unseen.VERBS and request.then is None else None
    if kind == "adverb":
        return Writer(rng)
    if ref is None or ref.place is not None:
        return None
    if kind == "adjective":
        return Writer(rng, adjective=pick(rng, unseen.ADJECTIVES))
    if kind == "noun" and ref.shape and ref.color and replace(ref, shape=None) in names.get("ref", ()):
        return Writer(rng, noun=pick(rng, unseen.SHAPES[ref.shape]))
    if kind == "color" and ref.shape and ref.color and replace(ref, color=None) in names.get("ref", ()):
        return Writer(rng, color=pick(rng, unseen.COLORS[ref.color]))
    return None
