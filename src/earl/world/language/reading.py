"""Text to request: `parse` reads every sentence of the grammar, without looking at the scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any

from earl.errors import InstructionError
from earl.world.language.grammar import Reading, table, vocabulary
from earl.world.language.lexer import Token, tokens
from earl.world.language.other import is_other
from earl.world.language.request import OTHER, Ref, Request
from earl.world.language.tables import FRAMES, HELDOUT

Item = tuple[str, Any]
_DEFINITE = ("the", "that", "this")
_MODIFIERS = {
    "<small>": ("size", "small"),
    "<large>": ("size", "large"),
    "<striped>": ("texture", "striped"),
    "<plain>": ("texture", "plain"),
}
_NAMED_BY_PLACE = {
    ("remove", "T"): "remove_nth",
    ("remove", "L"): "remove_related",
    ("color", "L"): "color_related",
}
_RELATIONS = ("<rel>", "<on>", "<beside>")


def parse(instruction: str) -> Request:
    """Read a sentence of the world.

    Raises:
        InstructionError: the sentence is in none of the world's wordings.
    """
    if is_other(instruction):
        return Request(OTHER)
    found = tokens(instruction, vocabulary())
    request = _parse_tokens(found) or _parse_two(found)
    if request is None:
        raise InstructionError(
            f"the instruction {instruction!r} is in none of the world's wordings; "
            'say for example "remove the red cube" (see docs/world.md)'
        )
    return request


def _parse_two(found: list[Token]) -> Request | None:
    for start in range(1, len(found) - 1):
        for joint in _joints():
            if tuple(found[start : start + len(joint)]) == joint:
                second = _parse_tokens(found[start + len(joint) :])
                first = _parse_tokens(found[:start]) if second is not None else None
                if first is not None and second is not None:
                    return replace(first, then=second)
    return None


@lru_cache(maxsize=1)
def _joints() -> tuple[tuple[Token, ...], ...]:
    joints = {tuple(tokens(text)) for text in (*FRAMES["joints"], *HELDOUT["joints"])}
    return tuple(sorted(joints, key=len, reverse=True))


@lru_cache(maxsize=1)
def _pleasantries() -> tuple[frozenset[tuple[Token, ...]], frozenset[tuple[Token, ...]]]:
    before, after = (
        frozenset(tuple(tokens(text)) for text in (*FRAMES[name], *HELDOUT[name])) - {()}
        for name in ("greetings", "farewells")
    )
    return before, after


def _parse_tokens(found: list[Token]) -> Request | None:
    return next((r for trimmed in _trimmed(found) if (r := _lookup(trimmed)) is not None), None)


def _trimmed(found: list[Token]) -> Iterator[list[Token]]:
    """The sentence without greetings before it and thanks after it, the fewest words left out first."""
    before, after = _pleasantries()
    starts, ends = [0], [len(found)]
    for start in starts:
        starts += [start + n for n in range(1, 5) if tuple(found[start : start + n]) in before][:3]
        if len(starts) > 8:
            break
    for end in ends:
        ends += [end - n for n in range(1, 8) if end - n > 0 and tuple(found[end - n : end]) in after][:3]
        if len(ends) > 8:
            break
    pairs = {(start, end) for start in starts for end in ends if start < end}
    yield from (found[start:end] for start, end in sorted(pairs, key=lambda p: p[0] - p[1]))


def _lookup(found: list[Token]) -> Request | None:
    request = _match(describe(found))
    if request is None and any(symbol == "<tail>" for symbol, _ in found):
        request = _match(describe(found, tails=False))  # "cover the cube with stripes"
    return request


def _match(items: list[Item]) -> Request | None:
    symbols = [symbol for symbol, _ in items]
    options = [("R", "K", "B") if s == "B" else ("R",) if s in ("T", "L") else (s,) for s in symbols]
    if sum(s == "B" for s in symbols) > 3:
        return None
    for key in product(*options):
        for reading in table().get(tuple(key), ()):
            request = _request(reading, items)
            if request is not None:
                return request
    return None


def _request(reading: Reading, items: list[Item]) -> Request | None:
    values = [(symbol, value) for symbol, value in items if value is not None]
    if len(values) != len(reading.slots):
        return None
    fields: dict[str, Any] = {}
    op = reading.op
    for slot, (symbol, value) in zip(reading.slots, values, strict=True):
        if slot[0] == "=":
            if value != slot[1:]:
                return None
            continue
        new = _fields(slot, symbol, value, op)
        if any(fields.get(name, given) != given for name, given in new.items()):
            return None
        fields |= new
        if symbol in ("T", "L"):
            op = _NAMED_BY_PLACE.get((op, symbol), "")
    if not op or (op in ("add", "replace") and None in (fields["kind"].shape, fields["kind"].color)):
        return None
    if reading.value is not None:
        fields["value"] = reading.value
    return Request(op, **fields)


def _fields(slot: str, symbol: str, value: Any, op: str) -> dict[str, Any]:
    if symbol == "T":
        return {"number": value[0], "side": value[1]}
    if symbol == "L":
        return {"relation": value[0], "ref2": value[1]}
    if slot == "count":
        return {"number": value[0], "kind": value[1]}
    if slot == "bare":
        return {"kind" if op == "one_more" else "ref": value}
    if slot in ("kinds", "kind"):
        return {"kind": value}
    if slot == "number":
        return {"number": int(value)}
    if slot in ("side", "beside"):
        return {"side": value}
    return {"value" if slot in ("color", "background", "style", "when") else slot: value}


def describe(found: list[Token], *, tails: bool = True) -> list[Item]:
    """Descriptions of solids gathered into one item each.

    Args:
        tails: whether "with stripes" after a noun belongs to the description.
    """
    if not tails:
        found = [
            (f"tail {value}", None) if symbol == "<tail>" else (symbol, value) for symbol, value in found
        ]
    items: list[Item] = []
    place = 0
    while place < len(found):
        item, length = _description(found, place)
        if item is None:
            symbol, value = found[place]
            items.append(("<num>", "1") if symbol == "one" else (symbol, value))
            length = 1
        else:
            items.append(item)
        place += length
    return items


def _description(found: list[Token], start: int) -> tuple[Item | None, int]:
    symbol, value = found[start]
    if symbol in _DEFINITE:
        return _definite(found, start)
    if symbol == "a":
        end, ref, _ = _noun_phrase(found, start + 1)
        return (("K", ref), end - start) if end and ref.place is None else (None, 0)
    if symbol == "<num>" or symbol == "one":
        number = int(value) if value is not None else 1
        end, ref, many = _noun_phrase(found, start + 1)
        if end and ref != Ref() and many == (number != 1):
            return ("Q", (number, ref)), end - start
        if symbol == "<num>":
            return None, 0
    end, ref, many = _noun_phrase(found, start)
    if not end or ref == Ref(place=ref.place) or (symbol == "can" and end == start + 1):
        return None, 0
    return ("P" if many else "B", ref), end - start


def _definite(found: list[Token], start: int) -> tuple[Item | None, int]:
    place, where = start + 1, None
    if place < len(found) and found[place][0] == "<nth>":
        rest = [symbol for symbol, _ in found[place + 1 : place + 5]]
        if rest[:1] in (["<noun>"], ["one"]) and rest[1:] == ["from", "the", "<side>"]:
            return ("T", (int(str(found[place][1])), found[place + 4][1])), 6
    if place < len(found) and found[place][0] in ("<head>", "<side>"):
        where, place = found[place][1], place + 1
    end, ref, many = _noun_phrase(found, place)
    if not end or many:
        return None, 0
    if where is not None:
        ref = replace(ref, place=where)
    if ref == Ref():
        return _related(found, start, end)
    return ("R", ref), end - start


def _related(found: list[Token], start: int, place: int) -> tuple[Item | None, int]:
    if [symbol for symbol, _ in found[place : place + 2]] in (["that", "is"], ["which", "is"]):
        place += 2
    if place >= len(found) or found[place][0] not in _RELATIONS:
        return None, 0
    symbol, value = found[place]
    relation = {"<on>": "on top of", "<beside>": f"to the {value} of"}.get(symbol, value)
    if place + 1 >= len(found) or found[place + 1][0] not in _DEFINITE:
        return None, 0
    item, length = _definite(found, place + 1)
    if item is None or item[0] != "R":
        return None, 0
    return ("L", (relation, item[1])), place + 1 + length - start


def _noun_phrase(found: list[Token], place: int) -> tuple[int, Ref, bool]:
    """Adjectives, a noun and what may follow it: (end, 0 where there is none; description; plural)."""
    fields: dict[str, str | None] = {}
    while place < len(found):
        symbol, value = found[place]
        if symbol in _MODIFIERS:
            name, value = _MODIFIERS[symbol]
        elif symbol == "<color>":
            name = "color"
        elif symbol == "<shade>":
            place += 1
            continue
        else:
            break
        if name in fields:
            return 0, Ref(), False
        fields[name] = value
        place += 1
    if place >= len(found):
        return 0, Ref(), False
    symbol, value = found[place]
    if symbol == "can":
        symbol, value = "<noun>", "cylinder"
    elif symbol == "one":
        symbol, value = "<noun>", ""
    elif (symbol, place + 1 < len(found)) == ("<color>", True):
        return 0, Ref(), False
    if symbol not in ("<noun>", "<nouns>"):
        return 0, Ref(), False
    place += 1
    if value:
        fields["shape"] = value
    while place < len(found) and found[place][0] in ("<tail>", "<place>"):
        name = "texture" if found[place][0] == "<tail>" else "place"
        if name in fields:
            break
        fields[name] = found[place][1]
        place += 1
    return place, Ref(**fields), symbol == "<nouns>"
