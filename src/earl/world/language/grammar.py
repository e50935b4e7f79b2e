"""Sentence patterns expanded from cores and frames, and the table that they are read with.

A pattern is a sequence of symbols; descriptions of solids are one symbol each, R "the red cube", K "a red
cube", B "red cube", Q "two red cubes", P "red cubes". The table goes from a sequence to the operation and
the slots in their order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product

from earl.world.language import frames, heldout
from earl.world.language.cores import CORES, STYLE_SENTENCES
from earl.world.language.form import Cores
from earl.world.language.lexer import tokens

SLOTS = {
    "{ref}": "R", "{ref2}": "R", "{ref3}": "R", "{bare}": "B", "{kind}": "K", "{count}": "Q", "{kinds}": "P",
    "{number}": "<num>", "{color}": "<color>", "{background}": "<background>", "{style}": "<style>",
    "{when}": "<when>", "{side}": "<side>", "{beside}": "<beside>", "{on}": "<on>", "{all}": "<all>",
    "{small}": "<small>", "{large}": "<large>", "{striped}": "<striped>", "{plain}": "<plain>",
}  # fmt: skip
_SILENT = {"{on}", "{all}", "{small}", "{large}", "{striped}", "{plain}"}
_FORMS = {"do": frames.COMMANDS, "done": frames.PASSIVES, "act": frames.ACTS}
_DOUBLED = {"put", "set", "cut", "drop", "get", "tip", "swap", "let", "flip", "drag", "chop", "pop", "hop"}
_CHOICE, _OPTION = re.compile(r"\(([^()]*)\)"), re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a pattern means. A slot is a field's name, or "=value" where the pattern fixes a value."""

    op: str
    slots: tuple[str, ...]
    value: str | None = None


Symbols = tuple[str, ...]


@cache
def expand(template: str) -> tuple[str, ...]:
    """Every sentence of a template with (a|b) and [c]."""
    choice = _CHOICE.search(template)  # choices first: an option may hold one
    match = choice or _OPTION.search(template)
    if match is None:
        return (re.sub(r"\s+", " ", template).strip(),)
    options = match.group(1).split("|")
    if choice is None:
        options.append("")
    start, end = template[: match.start()], template[match.end() :]
    return tuple(dict.fromkeys(s for option in options for s in expand(start + option + end)))


def gerund(core: str) -> str:
    """A core with its first word in -ing."""
    verb, _, rest = core.partition(" ")
    if verb.endswith("ie"):
        verb = verb[:-2] + "y"
    elif verb in _DOUBLED:
        verb += verb[-1]
    elif verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        verb = verb[:-1]
    return f"{verb}ing {rest}".strip()


def _symbols(text: str) -> tuple[Symbols, tuple[str, ...]]:
    """The symbols of a sentence with slots, and the slots in their order."""
    symbols: Symbols = ()
    slots: tuple[str, ...] = ()
    for piece in text.split("\x1f"):  # where a core meets its frame; each side is read once
        more, found = _piece(piece)
        symbols, slots = symbols + more, slots + found
    return symbols, slots


@cache
def _piece(text: str) -> tuple[Symbols, tuple[str, ...]]:
    text = text.replace("{more}", "one more {bare}")
    symbols, slots = [], []
    for symbol, value in tokens(text):
        if symbol in SLOTS:
            if symbol not in _SILENT:
                slots.append(symbol[1:-1])
            symbols.append(SLOTS[symbol])
        else:
            if symbol == "one":
                symbol, value = "<num>", "1"
            if value is not None:
                slots.append(f"={value}")
            symbols.append(f"tail {value}" if symbol == "<tail>" else symbol)
            if symbol == "<tail>":
                slots.pop()
    return tuple(symbols), tuple(slots)


def sentences(op: str, cores: Cores, *, framed: bool = True) -> Iterator[str]:
    """Every sentence of an operation with its slots, without pleasantries.

    A unit separator stands where a core or a subject meets the frame.
    """
    for form, templates in _FORMS.items():
        found = [core for template in getattr(cores, form) for core in expand(template)]
        if form == "do":
            yield from found
            if framed:
                yield from _fill(frames.COMMANDS, "{do}", found)
                yield from _fill(frames.GERUNDS, "{doing}", [gerund(core) for core in found])
        else:
            yield from _with_subject(templates, form, expand(cores.subject), found)
    for template in cores.whole:
        yield from expand(template)


def _fill(templates: Iterable[str], slot: str, cores: list[str]) -> Iterator[str]:
    for template in templates:
        for frame in expand(template):
            yield from (frame.replace(slot, f"\x1f{core}\x1f") for core in cores)


def _with_subject(
    templates: Iterable[str], form: str, subjects: Iterable[str], cores: list[str]
) -> Iterator[str]:
    for template in templates:
        for frame, subject in product(expand(template), subjects):
            framed = frame.replace("{it}", f"\x1f{subject}\x1f")
            yield from (framed.replace(f"{{{form}}}", f"\x1f{core}\x1f") for core in cores)


def readings() -> Iterator[tuple[Symbols, Reading, str]]:
    """Every pattern with its meaning and its text; the same pattern may come several times."""
    for op, cores in CORES.items():
        for text in sentences(op, cores):
            symbols, slots = _symbols(text)
            yield symbols, Reading(op, slots), text
    for style, texts in STYLE_SENTENCES.items():
        for text in _style_sentences(texts):
            symbols, slots = _symbols(text)
            yield symbols, Reading("style", slots, style), text
    for op, texts in heldout.CONSTRUCTIONS.items():
        for template in texts:
            for text in expand(template):
                symbols, slots = _symbols(text)
                yield symbols, Reading(op, slots), text


def _style_sentences(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield text
        if not text.startswith("it "):
            yield from _fill(frames.COMMANDS, "{do}", [text])


@lru_cache(maxsize=1)
def table() -> dict[Symbols, list[Reading]]:
    """All patterns; those that fix a value may share their symbols with others."""
    found: dict[Symbols, list[Reading]] = {}
    for symbols, reading, _ in readings():
        known = found.setdefault(symbols, [])
        if reading not in known:
            known.append(reading)
    return found


@lru_cache(maxsize=1)
def vocabulary() -> frozenset[str]:
    """Every word that the grammar knows, for the correction of typos."""
    from earl.world.language.lexer import BRITISH, CONTRACTIONS, _entries

    known: set[str] = set(CONTRACTIONS) | set(BRITISH) | set(BRITISH.values())
    for text, _ in _entries():
        known |= set(text.split())
    texts = [
        t for cores in CORES.values() for form in ("do", "done", "act", "whole") for t in getattr(cores, form)
    ]
    texts += [gerund(core) for cores in CORES.values() for t in cores.do for core in expand(t)]
    texts += [cores.subject for cores in CORES.values()]
    texts += [*frames.COMMANDS, *frames.GERUNDS, *frames.PASSIVES, *frames.ACTS, *frames.GREETINGS]
    texts += [*frames.FAREWELLS, *frames.FILLERS, *frames.JOINTS, *heldout.GREETINGS, *heldout.FAREWELLS]
    texts += [t for texts in STYLE_SENTENCES.values() for t in texts]
    texts += [t for texts in heldout.CONSTRUCTIONS.values() for t in texts]
    for text in texts:
        known |= set(re.findall(r"[a-z0-9']+", re.sub(r"\{\w+\}", " ", text)))
    return frozenset(known)
