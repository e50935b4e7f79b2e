"""The chain of thought in front of an image, as text.

Layout of a reasoning completion: `OPENING`, a space, the body, `CLOSING`, then the image. A body is one
or several chains, each with its key (`join_chains`).
The two markers are ordinary text to the tokenizer, so a body must not hold them.

Source: EARL (arXiv 2508.01119), reasoning data; the release cuts the body at 1,750 characters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from earl.errors import SequenceError
from earl.records import Box, Point

OPENING = " Let's think step by step. <|start thinking|>"
CLOSING = "<|end thinking|>"
MAX_REASONING_CHARACTERS = 1_750

_MARKERS = re.compile(r"<\|(?:start|end) thinking\|>")
_BROKEN = "|".join(
    re.escape(marker[:length])
    for marker in ("<|start thinking|>", CLOSING)
    for length in range(len(marker) - 1, 1, -1)
)
_BROKEN_END = re.compile(rf"(?:\s*(?:{_BROKEN}))+\Z")  # the model began a marker twice, or did not end it
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_FOUR_NUMBERS = re.compile(rf"([\[(]){_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}([\])])")


def clean_reasoning(text: str) -> str:
    """A body fit to be written: markers taken out, blank ends cut, at most 1,750 characters."""
    while (without := _MARKERS.sub("", text)) != text:
        text = without
    text = text.lstrip()
    # What was cut may end with a space, as in the release, and stays as it is when it is cleaned again.
    return text if len(text) == MAX_REASONING_CHARACTERS else text.rstrip()[:MAX_REASONING_CHARACTERS]


def join_chains(chains: Mapping[str, str]) -> str:
    """Chains of thought as one body, `{key}: {text}` joined by spaces; blank ones are left out."""
    written = ((key.strip(), text.strip()) for key, text in chains.items())
    return " ".join(f"{key}: {text}" for key, text in written if text)


def reasoning_body(reasoning: str) -> str:
    """The text after `OPENING`: a space, the cleaned body, `CLOSING`."""
    cleaned = clean_reasoning(reasoning)
    return f" {cleaned}{CLOSING}" if cleaned else CLOSING


def read_reasoning(text: str) -> str | None:
    """The body in the text before an image, without markers; None where there is no text."""
    if not text.strip():
        return None
    return clean_reasoning(_BROKEN_END.sub("", text.removeprefix(OPENING).removesuffix(CLOSING)))


def scale_box(box: Box, source_size: tuple[int, int], target_size: tuple[int, int]) -> Box:
    """Move a box from an image of one (width, height) in pixels onto its resized copy.

    The result is clamped to the resized image.

    Raises:
        SequenceError: a size is not positive.
    """
    _check_sizes(source_size, target_size)
    across, down = target_size[0] / source_size[0], target_size[1] / source_size[1]
    return Box(
        left=_clamp(box.left * across, target_size[0]),
        top=_clamp(box.top * down, target_size[1]),
        right=_clamp(box.right * across, target_size[0]),
        bottom=_clamp(box.bottom * down, target_size[1]),
    )


def scale_point(point: Point, source_size: tuple[int, int], target_size: tuple[int, int]) -> Point:
    """As `scale_box`, a point."""
    _check_sizes(source_size, target_size)
    (x, y), (width, height) = point, target_size
    return _clamp(x * width / source_size[0], width), _clamp(y * height / source_size[1], height)


def scale_boxes(text: str, source_size: tuple[int, int], target_size: tuple[int, int]) -> str:
    """Rewrite every box `[left, top, right, bottom]` or `(…)` in a text for the resized image.

    Args:
        text: reasoning whose boxes are in pixels of the source image.
        source_size: (width, height) in pixels that the boxes refer to.
        target_size: (width, height) in pixels of the resized image.

    Returns:
        The text with each box in whole pixels of the resized image, clamped to it. Brackets
        with other than four numbers are left alone.

    Raises:
        SequenceError: a size is not positive.
    """
    _check_sizes(source_size, target_size)

    def rewrite(found: re.Match[str]) -> str:
        opening, *numbers, closing = found.groups()
        box = scale_box(Box(*map(float, numbers)), source_size, target_size)
        sides = (box.left, box.top, box.right, box.bottom)
        return f"{opening}{', '.join(str(math.floor(side + 0.5)) for side in sides)}{closing}"

    return _FOUR_NUMBERS.sub(rewrite, text)


def find_boxes(text: str) -> list[Box]:
    """The boxes that a text names, in its order, as they stand there; empty ones are not counted."""
    boxes = [Box(*map(float, found.groups()[1:5])) for found in _FOUR_NUMBERS.finditer(text)]
    return [box for box in boxes if box.right > box.left and box.bottom > box.top]


def format_box(box: Box) -> str:
    """A box as reasoning text writes it: `[left, top, right, bottom]` in whole pixels."""
    sides = (box.left, box.top, box.right, box.bottom)
    return f"[{', '.join(str(math.floor(side + 0.5)) for side in sides)}]"


def _clamp(value: float, side: int) -> float:
    return min(max(value, 0.0), float(side))


def _check_sizes(*sizes: tuple[int, int]) -> None:
    for width, height in sizes:
        if width < 1 or height < 1:
            raise SequenceError(f"an image size must be positive, got {width}x{height} pixels")
