"""Chains of thought: read out of an answer, checked, and written as reasoning text.

Five steps: the source described, the object named, the region with its boxes, the exact change, the
expected result (EARL, arXiv 2508.01119). An answer that lacks one, or whose boxes lie outside the
image or apart from where the edit is, cannot be used; the error is a sentence that the model can act on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from earl.data.sources.cells import read_boxes
from earl.errors import DataError, InvalidAnswerError
from earl.reasoning.asking import read_object
from earl.records import Box
from earl.sequence.reasoning import (
    MAX_REASONING_CHARACTERS,
    clean_reasoning,
    find_boxes,
    format_box,
    join_chains,
    scale_boxes,
)

STEPS = ("source", "object", "region", "change", "result")
_WRITTEN = ("source", "object", "change", "result")
_MOST_BOXES = 8
_LEAST_WORDS = 3
_SLACK = 1.0  # px by which a box may lie over the edge: models round
_NUMBERED = re.compile(r"^(?:step\s*)?\d\s*[.:)]\s*", re.I)


@dataclass(frozen=True, slots=True)
class Chain:
    """Five steps; boxes are in pixels of the image that was shown."""

    source: str
    object: str
    region: tuple[Box, ...]
    change: str
    result: str

    def text(self) -> str:
        """The steps as reasoning text, each with its key, as the released models read it."""
        region = ", ".join(map(format_box, self.region))
        return join_chains({name: region if name == "region" else getattr(self, name) for name in STEPS})

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
        InvalidAnswerError: a step is missing, empty or too long, or a box is not in the image.
    """
    found = read_object(answer, STEPS)
    if "region" not in found:
        raise InvalidAnswerError('the step "region" is missing')
    written = {name: _step(found, name) for name in _WRITTEN}
    chain = Chain(region=_region(found["region"], size, known), **written)
    text = chain.text()
    for box in find_boxes(text):
        _check_inside(box, size)
    if len(text) > MAX_REASONING_CHARACTERS:
        raise InvalidAnswerError(
            f"the steps have {len(text)} characters, at most {MAX_REASONING_CHARACTERS} are taken"
        )
    return chain


def _step(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise InvalidAnswerError(
            f'the step "{name}" is missing' if value is None else f'the step "{name}" is no text'
        )
    text = clean_reasoning(_NUMBERED.sub("", " ".join(value.split())))
    if len(text.split()) < _LEAST_WORDS:
        raise InvalidAnswerError(f'the step "{name}" says {text!r}; expected a sentence')
    return text if text[-1] in ".!?" else f"{text}."


def _region(value: Any, size: tuple[int, int], known: Sequence[Box]) -> tuple[Box, ...]:
    try:
        boxes = read_boxes(value)
    except DataError as error:
        raise InvalidAnswerError(f'the step "region": {error}') from error
    if not boxes:
        raise InvalidAnswerError('the step "region" has no box [left, top, right, bottom]')
    if len(boxes) > _MOST_BOXES:
        raise InvalidAnswerError(f'the step "region" has {len(boxes)} boxes, at most {_MOST_BOXES} are taken')
    for box in boxes:
        _check_inside(box, size)
    if known and not any(_touch(box, other) for box in boxes for other in known):
        shown = ", ".join(map(format_box, known))
        raise InvalidAnswerError(
            f"the region {format_box(boxes[0])} is apart from where the images differ, {shown}"
        )
    return boxes


def _check_inside(box: Box, size: tuple[int, int]) -> None:
    width, height = size
    inside = -_SLACK <= box.left < box.right <= width + _SLACK
    if not (inside and -_SLACK <= box.top < box.bottom <= height + _SLACK):
        raise InvalidAnswerError(
            f"the box {format_box(box)} is not in the image of {width}x{height} pixels "
            "([left, top, right, bottom])"
        )


def _touch(one: Box, other: Box) -> bool:
    across = min(one.right, other.right) - max(one.left, other.left)
    down = min(one.bottom, other.bottom) - max(one.top, other.top)
    return across > 0 and down > 0
