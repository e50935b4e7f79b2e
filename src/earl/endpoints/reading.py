"""JSON objects in a language model's answer: between prose, after a chain of thought, with small errors.

Models write JSON with single quotes, commas at the end, bare line breaks and quotes inside strings, or
are cut off in it. What is read here is read in time proportional to the length of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

LONGEST = 100_000  # characters of an answer that are read
DEEPEST = 64  # containers inside each other; what lies deeper is not read
_MARK = re.compile(
    r"<\|channel\|>(?P<channel>\w{1,20})<\|message\|>|<[\s|]{0,4}(?P<tag>/?[\w:]{1,30})(?:\s[^<>]{0,80})?\|?>"
    r"|◁(?P<kimi>/?\w{1,30})▷|\[(?P<square>/?[A-Z]{5,9})\]"
)
_THOUGHT = re.compile(
    r"think|thought|reason|reflect|scratchpad|analysis|monologue|draft|plan|internal|\bcot\b", re.I
)
_THOUGHT_ENDS = re.compile(r"^/|(?:^|_)(?:end|final)(?:$|_)", re.I)
_BLANKS = re.compile(r"\s*")
_BARE = re.compile(r"[^\s,\[\]{}\"':]+")
_KEY_ENDS = re.compile(r"\s*:\s*")
_STRING_ENDS = re.compile(r"\s*(?:[}\]]|$|,\s*(?:[\"'\[{}\]]|-?\d|(?:true|false|null|None|True|False)\b|$))")
_QUOTES = {quote: re.compile(rf"\\.|{quote}", re.S) for quote in "\"'"}
_LONGEST_KEY = 200  # characters


@dataclass(slots=True)
class Node:
    """A JSON value in a text.

    Attributes:
        kind: "bare" is a number, true, null or another word without quotes.
        start, end: of its text, quotes and brackets included.
        whole: it was closed, not cut off or broken.
        text: of a string (escapes undone) or a bare word.
        items: of a list, or an object's values.
        keys: an object's, as many as items; the same key may come twice.
    """

    kind: Literal["object", "list", "string", "bare"]
    start: int
    end: int
    whole: bool = False
    text: str = ""
    items: list[Node] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    @property
    def inside(self) -> tuple[int, int]:
        """Start and end of its text, without the quotes of a string."""
        quote = self.kind == "string"
        return self.start + quote, self.end - (quote and self.whole)

    def value(self) -> Any:
        """Its Python value; of a repeated key the last counts."""
        if self.kind == "object":
            return {key: node.value() for key, node in zip(self.keys, self.items, strict=True)}
        if self.kind == "list":
            return [node.value() for node in self.items]
        if self.kind == "string":
            return self.text
        try:
            return json.loads(self.text)
        except ValueError:
            return {"True": True, "False": False, "None": None}.get(self.text, self.text)


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
            thoughts = thoughts if begun >= 0 else []  # without an opening mark all text before it is thought
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
        node = value_at(text, at)
        assert node is not None, "there is a brace"
        yield node
        at = text.find("{", node.end)


def value_at(text: str, at: int, *, depth: int = 0) -> Node | None:
    """The value that begins at `at`; where the text breaks off, what was read until there. None: no value."""
    here = text[at : at + 1]
    if here in ("{", "["):
        node = Node("object" if here == "{" else "list", at, at + 1)
        if depth < DEEPEST:
            _fill(text, node, depth)
        return node
    if here in _QUOTES:
        end = _string_end(text, at + 1, here, _STRING_ENDS, len(text))
        if end < 0:
            return Node("string", at, len(text), text=text[at + 1 :])
        return Node("string", at, end + 1, True, _unescaped(text[at + 1 : end]))
    match = _BARE.match(text, at)
    return Node("bare", at, match.end(), True, match[0]) if match else None


def _fill(text: str, node: Node, depth: int) -> None:
    """Read a container's items up to its end, or to where it breaks."""
    close = "}" if node.kind == "object" else "]"
    while True:
        node.end = _after_blanks(text, node.end)
        if text.startswith(close, node.end):
            node.end, node.whole = node.end + 1, True
            return
        at = node.end
        if node.kind == "object":
            key, at = _key_at(text, at)
            if at < 0:
                return
            node.keys.append(key)
        item = value_at(text, at, depth=depth + 1)
        node.items.append(item or Node("bare", at, at))
        node.end = node.items[-1].end
        if item is None or not item.whole:
            return
        node.end = _after_blanks(text, node.end)
        if text.startswith(",", node.end):
            node.end += 1
        elif not text.startswith(close, node.end):
            return


def _after_blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    assert match is not None, "it matches nothing too"
    return match.end()


def _key_at(text: str, at: int) -> tuple[str, int]:
    """A key and the place of its value; -1: there is no key."""
    quote, last = text[at : at + 1], at + _LONGEST_KEY
    if quote in _QUOTES:
        end = _string_end(text, at + 1, quote, _KEY_ENDS, last)
        name, after = text[at + 1 : end], end + 1
    else:
        match = _BARE.match(text, at, last)
        name, after = (match[0], match.end()) if match else ("", 0)
    colon = _KEY_ENDS.match(text, after) if after > 0 else None
    return (name, colon.end()) if colon else ("", -1)


def _string_end(text: str, at: int, quote: str, ends: re.Pattern[str], last: int) -> int:
    """End of a string: a quote followed by what may follow a string; -1 without one."""
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
