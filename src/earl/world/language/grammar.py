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

from earl.world.language.lexer import entries, tokens
from earl.world.language.tables import CONSTRUCTIONS, CORES, FRAMES, HELDOUT, WORDS, texts

SLOTS = {
    "{ref}": "R", "{ref2}": "R", "{ref3}": "R", "{bare}": "B", "{kind}": "K", "{count}": "Q", "{kinds}": "P",
    "{number}": "<num>", "{color}": "<color>", "{background}": "<background>", "{style}": "<style>",
    "{when}": "<when>", "{side}": "<side>", "{beside}": "<beside>", "{on}": "<on>", "{all}": "<all>",
    "{small}": "<small>", "{large}": "<large>", "{striped}": "<striped>", "{plain}": "<plain>",
}  # fmt: skip
_SILENT = {"{on}", "{all}", "{small}", "{large}", "{striped}", "{plain}"}
_DOUBLED = {"put", "set", "cut", "drop", "get", "tip", "swap", "let", "flip", "drag", "chop", "pop", "hop"}
_CHOICE, _OPTION = re.compile(r"\(([^()]*)\)"), re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class Reading:
    """Meaning of a pattern. A slot is a field's name, or "=value" where the pattern fixes a value."""

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


def symbols_of(text: str) -> tuple[Symbols, tuple[str, ...]]:
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


def sentences(op: str, *, framed: bool = True) -> Iterator[str]:
    """Every sentence of an operation with its slots, without pleasantries.

    A unit separator stands where a core or a subject meets the frame.
    """
    cores = CORES[op]
    found = [core for template in cores["do"] for core in expand(template)]
    yield from found
    if framed:
        yield from _fill(FRAMES["do"], "{do}", found)
        yield from _fill(FRAMES["doing"], "{doing}", [gerund(core) for core in found])
    for form in ("done", "act"):
        found = [core for template in cores[form] for core in expand(template)]
        for template in FRAMES[form]:
            for frame, subject in product(expand(template), expand(cores["subject"])):
                yield from _fill([frame.replace("{it}", f"\x1f{subject}\x1f")], f"{{{form}}}", found)
    for template in cores["whole"]:
        yield from expand(template)


def _fill(templates: Iterable[str], slot: str, cores: list[str]) -> Iterator[str]:
    for template in templates:
        for frame in expand(template):
            yield from (frame.replace(slot, f"\x1f{core}\x1f") for core in cores)


def readings() -> Iterator[tuple[Symbols, Reading, str]]:
    """Every pattern with its meaning and its text; the same pattern may come several times."""
    for op in CORES:
        for text in sentences(op):
            yield _reading(op, text)
    for style, wishes in FRAMES["styles"].items():
        for wish in wishes:
            yield _reading("style", wish, style)
            if not wish.startswith("it "):
                for text in _fill(FRAMES["do"], "{do}", [wish]):
                    yield _reading("style", text, style)
    for op, templates in CONSTRUCTIONS.items():
        for template in templates:
            for text in expand(template):
                yield _reading(op, text)


def _reading(op: str, text: str, value: str | None = None) -> tuple[Symbols, Reading, str]:
    symbols, slots = symbols_of(text)
    return symbols, Reading(op, slots, value), text


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
    known = {*WORDS["contractions"], *WORDS["british"], *WORDS["british"].values()}
    known.update(word for text, _ in entries() for word in text.split())
    gerunds = [gerund(core) for cores in CORES.values() for t in cores["do"] for core in expand(t)]
    said = [CORES, CONSTRUCTIONS, HELDOUT["greetings"], HELDOUT["farewells"], FRAMES, gerunds]
    for text in texts(said):
        known.update(re.findall(r"[a-z0-9']+", re.sub(r"\{\w+\}", " ", text)))
    return frozenset(known)
