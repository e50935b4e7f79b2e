"""A chain of thought read out of an answer, checked, and written as reasoning text.

Five steps: the source described, the object named, the region with its boxes, the exact change, the
expected result (EARL, arXiv 2508.01119). An answer that lacks one, or whose boxes lie outside the
image or apart from where the edit is, is `Unfit`, with a sentence that the model can act on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from earl.data.sources.schema import read_boxes
from earl.errors import DataError
from earl.records import Box
from earl.sequence.reasoning import (
    MAX_REASONING_CHARACTERS,
    clean_reasoning,
    find_boxes,
    format_box,
    scale_boxes,
)

STEPS = ("source", "object", "region", "change", "result")
_WRITTEN = ("source", "object", "change", "result")
_MOST_BOXES = 8
_LEAST_WORDS = 3
_SLACK = 1.0  # px by which a box may lie over the edge: models round
_LONGEST = 100_000  # characters of an answer that are looked at
_THINKING = re.compile(r"<(think|thinking)>.*?</\1>", re.I | re.S)
_NUMBERED = re.compile(r"^(?:step\s*)?\d\s*[.:)]\s*", re.I)
_DECODER = json.JSONDecoder(strict=False)  # bare line breaks in strings are common, and harmless


class Unfit(Exception):
    """An answer that cannot be used; the message says why, to people and to the model."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Five steps; boxes are in pixels of the image that was shown."""

    source: str
    object: str
    region: tuple[Box, ...]
    change: str
    result: str

    def text(self) -> str:
        """The steps as reasoning text, as the world writes them."""
        boxes = ", ".join(map(format_box, self.region))
        return (
            f"1. {self.source} 2. {self.object} 3. The region is {boxes}. 4. {self.change} 5. {self.result}"
        )

    def scaled(self, shown: tuple[int, int], size: tuple[int, int]) -> str:
        """The text for an image of `size`, where the chain is about one of `shown` (width, height)."""
        return clean_reasoning(scale_boxes(self.text(), shown, size))


def read_chain(answer: str, size: tuple[int, int], known: Sequence[Box] = ()) -> Chain:
    """The chain of thought in a model's answer.

    Args:
        answer: a JSON object with `STEPS`, perhaps in a code fence or after thinking aloud.
        size: (width, height) in pixels of the image that was shown.
        known: where the edit is; one of the answer's boxes has to touch one of these.

    Raises:
        Unfit: a step is missing, empty or too long, or a box is not in the picture.
    """
    found = read_object(answer, STEPS)
    if "region" not in found:
        raise Unfit('the step "region" is missing')
    written = {name: _step(found, name) for name in _WRITTEN}
    chain = Chain(region=_region(found["region"], size, known), **written)
    text = chain.text()
    for box in find_boxes(text):
        _check_inside(box, size)
    if len(text) > MAX_REASONING_CHARACTERS:
        raise Unfit(f"the steps have {len(text)} characters, at most {MAX_REASONING_CHARACTERS} are taken")
    return chain


def read_object(answer: str, keys: Sequence[str]) -> dict[str, Any]:
    """The last JSON object of an answer that has one of the keys.

    Raises:
        Unfit: there is none.
    """
    text = _THINKING.sub("", answer[:_LONGEST])
    found = [entry for entry in _objects(text) if any(key in entry for key in keys)]
    if not found:
        wanted = ", ".join(f'"{key}"' for key in keys)
        raise Unfit(f"there is no JSON object with {wanted}" if text.strip() else "the answer is empty")
    return found[-1]


def _objects(text: str) -> Iterator[dict[str, Any]]:
    place = text.find("{")
    while place >= 0:
        try:
            entry, end = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            end = place + 1
        else:
            if isinstance(entry, dict):
                yield entry
        place = text.find("{", end)


def _step(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise Unfit(f'the step "{name}" is missing' if value is None else f'the step "{name}" is no text')
    text = clean_reasoning(_NUMBERED.sub("", " ".join(value.split())))
    if len(text.split()) < _LEAST_WORDS:
        raise Unfit(f'the step "{name}" says {text!r}; expected a sentence')
    return text if text[-1] in ".!?" else f"{text}."


def _region(value: Any, size: tuple[int, int], known: Sequence[Box]) -> tuple[Box, ...]:
    try:
        boxes = read_boxes(value)
    except DataError as error:
        raise Unfit(f'the step "region": {error}') from error
    if not boxes:
        raise Unfit('the step "region" has no box [left, top, right, bottom]')
    if len(boxes) > _MOST_BOXES:
        raise Unfit(f'the step "region" has {len(boxes)} boxes, at most {_MOST_BOXES} are taken')
    for box in boxes:
        _check_inside(box, size)
    if known and not any(_touch(box, other) for box in boxes for other in known):
        shown = ", ".join(map(format_box, known))
        raise Unfit(f"the region {format_box(boxes[0])} is apart from where the images differ, {shown}")
    return boxes


def _check_inside(box: Box, size: tuple[int, int]) -> None:
    width, height = size
    inside = -_SLACK <= box.left < box.right <= width + _SLACK
    if not (inside and -_SLACK <= box.top < box.bottom <= height + _SLACK):
        raise Unfit(
            f"the box {format_box(box)} is not in the picture of {width}x{height} pixels "
            "([left, top, right, bottom])"
        )


def _touch(one: Box, other: Box) -> bool:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    return across > 0 and down > 0
