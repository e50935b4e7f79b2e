"""Request to text: `phrase` draws a sentence of the grammar, its words and its look."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np

from earl.errors import InstructionError
from earl.world.language.grammar import expand, gerund
from earl.world.language.lexer import plural
from earl.world.language.other import write_other
from earl.world.language.reading import parse
from earl.world.language.request import OTHER, Ref, Request
from earl.world.language.surface import chance, dress
from earl.world.language.tables import CORES, FRAMES, HELDOUT, OPERATIONS, WORDS
from earl.world.sampling import choose as pick

_TRIES = 20
_HELD_OUT = {"constructions": "sentences", "verbs": "verbs"}  # modes, and their tables
_USUAL = 0.45
"""Share of words that are the usual ones, where there are others."""


def phrase(request: Request, rng: np.random.Generator, mode: str = "train") -> str:
    """One sentence of the language, which `parse` reads back as the same request.

    Args:
        mode: "train": the language of training; "pairs": with pairs of operation and word that training does
            not show together; "constructions": of a construction that training does not show, in words that
            it does show.

    Raises:
        InstructionError: no such sentence was found.
    """
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


def _suits(template: str, request: Request) -> bool:
    """Whether a sentence can be filled: a possessive needs a description that ends with its noun, "no more
    {bare}" needs one that is not by place or relation alone."""
    if "} 's" in template:
        return request.ref is not None and request.ref.place is None and request.ref.texture is None
    return "{bare}" not in template or request.ref is not None or request.op == "one_more"


def cores_of(op: str) -> str:
    """The operation whose cores are used for this one."""
    return str(OPERATIONS[op].get("like", op))


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
            joints = HELDOUT if held and chance(self.rng, 0.3) else FRAMES
            joint = pick(self.rng, joints["joints"])
            comma = pick(self.rng, (",", ";", ".") if joint == "then" else ("", ",", "", ".", ";"))
            plain = chance(self.rng, 0.6) and not held
            text = f"{text}{comma} {joint} {self.clause(request.then, plain=plain)}"
        return dress(text, self.rng, HELDOUT if held else FRAMES)

    def clause(self, request: Request, *, plain: bool = False) -> str:
        op = cores_of(request.op)
        if op == "style" and self.mode in ("train", "pairs") and chance(self.rng, 0.08):
            return str(pick(self.rng, FRAMES["styles"][request.value]))
        for _ in range(_TRIES):
            template = self._template(op, plain)
            if _suits(template, request):
                break
        return self.fill(template, request)

    def _template(self, op: str, plain: bool) -> str:
        """A sentence with slots, in its frame."""
        if self.mode in _HELD_OUT:
            return self._expanded(HELDOUT[_HELD_OUT[self.mode]][op])
        draw = 0.0 if plain else self.rng.random()
        form = "do" if draw < 0.5 else "done" if draw < 0.65 else "act" if draw < 0.8 else "whole"
        template = self._expanded(CORES[op][form])
        if form == "do" and not plain:
            template = self._command(template)
        elif form in ("done", "act"):
            frame = self._expanded(FRAMES[form])
            subject = pick(self.rng, expand(CORES[op]["subject"]))
            template = frame.replace("{it}", subject).replace(f"{{{form}}}", template)
        return template

    def _expanded(self, templates: Sequence[str]) -> str:
        return pick(self.rng, expand(pick(self.rng, templates)))

    def _command(self, core: str) -> str:
        draw = self.rng.random()
        if draw < 0.55:
            return core
        if draw < 0.92:
            return self._expanded(FRAMES["do"]).replace("{do}", core)
        return self._expanded(FRAMES["doing"]).replace("{doing}", gerund(core))

    def fill(self, template: str, request: Request) -> str:
        """A template with its slots in words."""
        template = template.replace("{more}", "{more} {bare}")
        if "the {side}" not in template and "its {side}" not in template:
            template = template.replace("{side}", str(request.side))  # "roll it left"
        text = re.sub(r"\{(\w+)\}", lambda match: self._slot(match.group(1), request), template)
        if "picture" in text and chance(self.rng, 0.5) and "imagine" not in text:
            text = re.sub(
                r"\b(the|this) picture\b", lambda m: f"{m.group(1)} {pick(self.rng, WORDS['images'])}", text
            )
        text = re.sub(r"\ba (?=[aeiou])", "an ", text)
        return re.sub(r" '", "'", text)

    def _slot(self, name: str, request: Request) -> str:
        op = request.op
        if name == "ref" and op == "remove_nth":
            nth = self.word("nth", request.number, op)
            return f"the {nth} {pick(self.rng, ('object', 'one', 'thing', 'item'))} from the {request.side}"
        if name == "ref" and op in ("remove_related", "color_related"):
            return self._related(request)
        if name in ("ref", "ref2", "ref3"):
            return self.definite(getattr(request, name), op)
        if name in ("kind", "bare", "count", "kinds"):
            return self._described(name, request)
        if name in ("more", "all"):
            return str(pick(self.rng, WORDS["more" if name == "more" else "everything"]))
        if name in ("small", "large", "striped", "plain"):
            return self.word("size" if name in WORDS["size"] else "texture", name, op)
        table, value = {
            "number": ("num", request.number),
            "side": ("side", request.side),
            "beside": ("relation", f"to the {request.side} of"),
            "on": ("relation", "on top of"),
        }.get(name, (name, request.value))
        return self.word(table, value, op)

    def _related(self, request: Request) -> str:
        assert request.ref2 is not None
        relation = self.word("relation", request.relation, request.op)
        head = pick(self.rng, ("the one", "the object", "the thing", "the item", "the one that is"))
        return f"{head} {relation} {self.definite(request.ref2, request.op)}"

    def _described(self, name: str, request: Request) -> str:
        ref = request.kind if request.op in ("add", "replace", "exactly", "one_more") else request.ref
        assert ref is not None, "`_suits` looks at this"
        number = request.number or 1
        text = self.noun_phrase(ref, request.op, name == "kinds" or (name == "count" and number != 1))
        if name == "count":
            return f"{self.word('num', number, request.op)} {text}"
        return f"a {text}" if name == "kind" and self.articles else text

    def definite(self, ref: Ref, op: str) -> str:
        """A solid that is there, with the article or without."""
        place = ref.place
        if place is not None and chance(self.rng, 0.5):
            head = self.word("head", place, op)
            return f"the {head} {self.noun_phrase(replace(ref, place=None), op)}"
        text = self.noun_phrase(ref, op)
        if not self.articles and (ref.shape or ref.color):
            return text
        return f"{'that' if chance(self.rng, 0.03) else 'the'} {text}"

    def noun_phrase(self, ref: Ref, op: str, many: bool = False) -> str:
        """A description without its article."""
        noun, color, adjective = self.noun, self.color, self.adjective
        self.noun = self.color = self.adjective = ""  # said once
        parts, tail = [adjective] if adjective else [], ""
        if ref.size:
            parts.append(self.word("size", ref.size, op))
        if ref.texture and chance(self.rng, 0.75):
            parts.append(self.word("texture", ref.texture, op))
        elif ref.texture:
            tail = " " + pick(self.rng, WORDS["tail"][ref.texture])
        if ref.color:
            shade = pick(self.rng, WORDS["shades"]) + " " if chance(self.rng, 0.04) and not color else ""
            parts.append(color or shade + self.word("color", ref.color, op))
        if len(parts) > 1 and chance(self.rng, 0.1):
            parts.reverse()
        if not noun:
            noun = self.word("shape", ref.shape, op) if ref.shape else pick(self.rng, WORDS["objects"])
        text = " ".join((*parts, plural(noun) if many else noun)) + tail
        return f"{text} {self.word('place', ref.place, op)}" if ref.place else text

    def word(self, table: str, value: str | int | None, op: str) -> str:
        """A word for a value, by the rules of the mode."""
        options: list[str] = WORDS[table][str(value)]
        held = [option for option in options[1:] if held_out_pair(op, option)]
        if self.mode == "pairs" and held:
            return pick(self.rng, held)
        free = [option for option in options if option not in held]
        if self.mode == "train" and chance(self.rng, _USUAL):
            return options[0]
        return pick(self.rng, free)


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
            before, adverb = chance(rng, 0.5), pick(rng, HELDOUT["words"]["adverbs"])
            text = f"{adverb} {text}" if before else f"{text.rstrip('.!?')} {adverb}"
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
        known = cores_of(request.op) in HELDOUT["verbs"] and request.then is None
        return Writer(rng, "verbs") if known else None
    if kind == "adverb":
        return Writer(rng)
    if ref is None or ref.place is not None:
        return None
    if kind == "adjective":
        return Writer(rng, adjective=pick(rng, HELDOUT["words"]["adjectives"]))
    if kind == "noun" and ref.shape and ref.color and replace(ref, shape=None) in names.get("ref", ()):
        return Writer(rng, noun=pick(rng, HELDOUT["words"]["shape"][ref.shape]))
    if kind == "color" and ref.shape and ref.color and replace(ref, color=None) in names.get("ref", ()):
        return Writer(rng, color=pick(rng, HELDOUT["words"]["color"][ref.color]))
    return None
