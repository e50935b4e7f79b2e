"""Reading the scores out of a judge's answer; what is not certain is unusable.

Judges write JSON between prose, in code fences, with small slips (single quotes, trailing commas,
bare line breaks and quotes inside strings), cut off, or after thinking aloud. What is read: objects
that are JSON, by their key "score"; outside of them, `score: [...]`; and where neither stands
anywhere, bare lists of numbers. All that is found must agree. Numbers are checked for count, range
and being numbers. `vectors/judge_answers.json` holds 27 answers and what must be read from each.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

LONGEST = 100_000  # characters of an answer that are looked at
THINKING = re.compile(r"<(think|thinking)>.*?</\1>", re.I | re.S)
THOUGHT_END = re.compile(r"^.*</(?:think|thinking)>", re.I | re.S)  # where the opening tag was in the prompt
THOUGHT_OPEN = re.compile(r"<(?:think|thinking)>.*$", re.I | re.S)
KEYED = re.compile(r"""(?<![A-Za-z0-9_])["']?scores?["']?\s*[:=]\s*\[([^\[\]{}]*)\]""", re.I)
LIST = re.compile(r"\[([^\[\]{}]*)\]")
NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?")
NUMBER_LIKE = re.compile(
    r"""\s*["']?\s*(?:[+-]?\d+(?:\.\d+)?|[+-]?nan|[+-]?inf(?:inity)?|null|none)\s*["']?\s*""", re.I
)
Items = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """Scores, or the problem that leaves none. `spans` says where in the answer each number stands."""

    scores: tuple[float, ...] | None
    problem: str = ""
    spans: tuple[tuple[int, int], ...] = ()


def read_scores(answer: str, *, count: int = 2, low: float = 0, high: float = 10) -> Reading:
    """Read `count` scores in [low, high] from a judge's answer.

    Never raises for what a judge wrote: `scores` is None and `problem` says why.
    """
    text = _without_thinking(answer[:LONGEST])
    found = _objects(text)
    rest = text
    for start, end, _ in found:
        rest = rest[:start] + " " * (end - start) + rest[end:]
    lists = [items for _, _, verdicts in found for items in verdicts]
    lists += [_split(match[1]) for match in KEYED.finditer(rest)]
    places = KEYED
    if not lists:
        places = LIST
        lists = [_split(match[1]) for match in LIST.finditer(rest) if _all_number_like(match[1])]
    if not lists:
        return Reading(None, "no scores in the answer" if text.strip() else "the answer is empty")
    readings = [_checked(items, count, low, high) for items in lists]
    for reading in readings:
        if reading.scores is None:
            return reading
    scores = readings[0].scores
    if any(reading.scores != scores for reading in readings):
        return Reading(None, "several verdicts that differ")
    same = (m for m in places.finditer(text) if _checked(_split(m[1]), count, low, high).scores == scores)
    return Reading(scores, spans=next((_spans(match, count) for match in same), ()))


def _without_thinking(text: str) -> str:
    """Blanks in place of what was thought aloud, so that positions stay."""
    for pattern in (THINKING, THOUGHT_END, THOUGHT_OPEN):
        text = pattern.sub(lambda match: " " * len(match[0]), text)
    return text


def _objects(text: str) -> list[tuple[int, int, list[Items]]]:
    """(start, end, score lists) of every outermost JSON object that holds a key "score"."""
    decoder = json.JSONDecoder(strict=False, object_pairs_hook=_Pairs)
    found, at = [], text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            at = text.find("{", at + 1)
            continue
        verdicts = _verdicts_in(value)
        if verdicts:
            found.append((at, end, verdicts))
        at = text.find("{", end)
    return found


class _Pairs(list):
    """A JSON object with its keys in order, the same key twice included."""


def _verdicts_in(value: Any) -> list[Items]:
    if isinstance(value, _Pairs):
        found = []
        for key, inner in value:
            if key.strip().lower() in ("score", "scores"):
                found.append(tuple(inner) if isinstance(inner, list) else (inner,))
            else:
                found += _verdicts_in(inner)
        return found
    if isinstance(value, list):
        return [items for inner in value for items in _verdicts_in(inner)]
    return []


def _split(inside: str) -> Items:
    """What stands between brackets, as strings; a comma at the end is a slip."""
    parts = inside.split(",")
    if len(parts) > 1 and not parts[-1].strip():
        parts.pop()
    return tuple(part.strip().strip("\"'").strip() for part in parts)


def _all_number_like(inside: str) -> bool:
    parts = inside.rstrip().rstrip(",").split(",")
    return all(NUMBER_LIKE.fullmatch(part) for part in parts)


def _checked(items: Items, count: int, low: float, high: float) -> Reading:
    if len(items) != count:
        return Reading(None, f"{len(items)} scores instead of {count}")
    scores = []
    for item in items:
        number = _number(item)
        if number is None:
            return Reading(None, f"{str(item)[:40]!r} is not a number")
        if not low <= number <= high:
            return Reading(None, f"{number:g} is outside {low:g} to {high:g}")
        scores.append(number)
    return Reading(tuple(scores))


def _number(item: Any) -> float | None:
    if isinstance(item, str):
        item = item.strip()
        if len(item) > 40 or not NUMBER.fullmatch(item):
            return None
        return float(item)
    if isinstance(item, bool) or not isinstance(item, int | float):
        return None
    try:
        number = float(item)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _spans(match: re.Match[str], count: int) -> tuple[tuple[int, int], ...]:
    """Positions of the numbers between a match's brackets; none where they are not `count`."""
    base = match.start(1)
    spans = tuple((base + m.start(), base + m.end()) for m in NUMBER.finditer(match[1]))
    return spans if len(spans) == count else ()
