"""JSON objects in what a language model wrote, between prose, after thinking aloud, with slips.

Models write JSON with single quotes, commas at the end, bare line breaks and quotes inside strings, or
are cut off in it. What is read here is read in time proportional to the length of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

LONGEST = 100_000  # characters of an answer that are read
DEEPEST = 64  # containers inside each other; what lies deeper is not read
_MARK = re.compile(
    r"<\|channel\|>(?P<channel>\w{1,20})<\|message\|>|<\|?(?P<tag>/?[\w:]{1,30})\|?>"
    r"|◁(?P<kimi>/?\w{1,30})▷|\[(?P<square>/?[A-Z]{5,9})\]"
)
_THOUGHT = re.compile(r"think|thought|reason|reflect|scratchpad|analysis|monologue", re.I)
_THOUGHT_ENDS = re.compile(r"^/|(?:^|_)(?:end|final)(?:$|_)", re.I)
_BLANK = re.compile(r"\s*")
_BARE = re.compile(r"[^\s,\[\]{}\"':]+")
_KEY_ENDS = re.compile(r"\s*:")
_STRING_ENDS = re.compile(r"\s*(?:[}\]]|$|,\s*(?:[\"'\[{}\]]|-?\d|(?:true|false|null|None|True|False)\b|$))")
_QUOTES = {quote: re.compile(rf"\\.|{quote}", re.S) for quote in "\"'"}
_LONGEST_KEY = 200  # characters

Kind = Literal["object", "list", "string", "bare"]


@dataclass(slots=True)
class Node:
    """A JSON value in a text.

    Attributes:
        kind: "bare" is a number, true, null or another word without quotes.
        start, end: of its text; of a string, without the quotes.
        whole: it was closed, not cut off or broken.
        text: of a string (escapes undone) or a bare word.
        items: of a list, or an object's values.
        keys: an object's, as many as items; the same key may come twice.
    """

    kind: Kind
    start: int
    end: int
    whole: bool
    text: str = ""
    items: list[Node] | None = None
    keys: list[str] | None = None

    def pairs(self) -> Iterator[tuple[str, Node]]:
        """Keys and values of an object."""
        yield from zip(self.keys or (), self.items or (), strict=True)

    def value(self) -> Any:
        """As Python has it; of an object with a key twice the last is taken."""
        if self.kind == "object":
            return {key: node.value() for key, node in self.pairs()}
        if self.kind == "list":
            return [node.value() for node in self.items or ()]
        if self.kind == "bare":
            try:
                return json.loads(self.text)
            except ValueError:
                return {"True": True, "False": False, "None": None}.get(self.text, self.text)
        return self.text


def without_thinking(text: str) -> str:
    """The text with blanks in place of what was thought aloud, so that positions stay.

    Known are tags whose name speaks of thinking (<think>, <thought>, <|begin_of_thought|>, ◁think▷, [THINK]),
    and channels (<|channel|>analysis<|message|>). A closing mark alone ends a thought that the prompt began;
    an opening mark alone begins one that was cut off.
    """
    thoughts: list[tuple[int, int]] = []
    begun = -1
    for mark in _MARK.finditer(text):
        name = mark[mark.lastgroup or 0]
        if not (mark["channel"] or _THOUGHT.search(name)):
            continue
        if not _THOUGHT_ENDS.search(name):
            begun = mark.start() if begun < 0 else begun
        else:
            thoughts = thoughts if begun >= 0 else []  # all before it was thought
            thoughts.append((max(begun, 0), mark.end()))
            begun = -1
    if begun >= 0:
        thoughts.append((begun, len(text)))
    pieces, at = [], 0
    for start, end in thoughts:
        pieces += [text[at:start], " " * (end - start)]
        at = end
    return "".join(pieces) + text[at:]


def objects(text: str) -> Iterator[Node]:
    """Every outermost object of a text, whole or not, in order."""
    at = text.find("{")
    while at >= 0:
        node = _object(text, at)
        yield node
        at = text.find("{", max(node.end, at + 1))


def _object(text: str, start: int) -> Node:
    """The object that begins at `start`; where it breaks, with what was read before."""
    outermost = Node("object", start, start + 1, False, items=[], keys=[])
    stack = [outermost]
    at, key, expect = start + 1, "", "item"
    while stack:
        at = _blank_end(text, at)
        top = stack[-1]
        here = text[at : at + 1]
        if here and here == ("}" if top.kind == "object" else "]"):
            at += 1
            top.end, top.whole = at, True
            stack.pop()
            expect = "comma"
        elif expect == "comma":
            if here != ",":
                break
            at, expect = at + 1, "item"
        elif expect == "item" and top.kind == "object":
            named = _key_at(text, at)
            if named is None:
                break
            key, at = named
            expect = "value"
        else:
            node = _value_at(text, at)
            if node is None or (node.items is not None and len(stack) >= DEEPEST):
                break
            assert top.items is not None
            top.items.append(node)
            if top.keys is not None:
                top.keys.append(key)
            if node.items is not None:
                stack.append(node)
            at, expect = _after(text, node), "item" if node.items is not None else "comma"
            if not node.whole and node.items is None:  # a string that was cut off
                break
    for node in stack:
        node.end = at
    return outermost


def _blank_end(text: str, at: int) -> int:
    match = _BLANK.match(text, at)
    assert match is not None
    return match.end()


def _key_at(text: str, at: int) -> tuple[str, int] | None:
    """A key and the place behind its colon."""
    quote = text[at : at + 1]
    if quote and quote in _QUOTES:
        end = _string_end(text, at + 1, quote, _KEY_ENDS, at + _LONGEST_KEY)
        if end < 0:
            return None
        name, after = text[at + 1 : end], end + 1
    else:
        match = _BARE.match(text, at, at + _LONGEST_KEY)
        if match is None:
            return None
        name, after = match[0], match.end()
    colon = _KEY_ENDS.match(text, after)
    return (name, colon.end()) if colon else None


def _value_at(text: str, at: int) -> Node | None:
    here = text[at : at + 1]
    if not here:
        return None
    if here == "{":
        return Node("object", at, at + 1, False, items=[], keys=[])
    if here == "[":
        return Node("list", at, at + 1, False, items=[])
    if here in _QUOTES:
        end = _string_end(text, at + 1, here, _STRING_ENDS, len(text))
        if end < 0:
            return Node("string", at + 1, len(text), False, text[at + 1 :])
        return Node("string", at + 1, end, True, _unescaped(text[at + 1 : end]))
    match = _BARE.match(text, at)
    return Node("bare", at, match.end(), True, match[0]) if match else None


def _after(text: str, node: Node) -> int:
    """The place behind a value that was just read."""
    return min(len(text), node.end + 1) if node.kind == "string" else node.end


def _string_end(text: str, at: int, quote: str, ends: re.Pattern[str], last: int) -> int:
    """Where a string ends: at a quote that something follows which can follow a string; -1: nowhere."""
    while (match := _QUOTES[quote].search(text, at, last)) is not None:
        if match[0] == quote and ends.match(text, match.end()):
            return match.start()
        at = match.end()
    return -1


def _unescaped(inside: str) -> str:
    if "\\" not in inside:
        return inside
    try:
        text: str = json.loads('"' + re.sub(r'(?<!\\)"', r"\"", inside) + '"', strict=False)
        return text
    except ValueError:
        return inside
