"""Checks of an instruction before it becomes ids."""

from __future__ import annotations

from earl.errors import InstructionError

MAX_INSTRUCTION_CHARACTERS = 2_000
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))
# Soft hyphen, Arabic letter mark, Mongolian vowel separator, zero-width space, joiners and word joiner,
# marks of direction, byte order mark: nothing is drawn for them, and str.strip leaves them.
_WIDTHLESS = "\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
NEGATIVE_INSTRUCTION = "keep the picture as it is"  # what guidance leads away from, unless told


def trimmed(instruction: str) -> str:
    """An instruction without blanks and characters without width at its ends, which cannot be seen."""
    return instruction.strip(_BLANKS + _WIDTHLESS)


def check_instruction(instruction: str, name: str = "the instruction") -> str:
    """An instruction without blank ends (`trimmed`).

    Args:
        instruction: 1 to 2,000 characters.
        name: what to call it where it is refused.

    Raises:
        InstructionError: empty, too long, or not text.
    """
    if not isinstance(instruction, str):
        raise InstructionError(f"{name} must be text, got {type(instruction).__name__}")
    text = trimmed(instruction)
    if not text:
        raise InstructionError(f'{name} is empty; say what to change, e.g. "make the red cube blue"')
    if len(text) > MAX_INSTRUCTION_CHARACTERS:
        raise InstructionError(
            f"{name} has {len(text)} characters, at most {MAX_INSTRUCTION_CHARACTERS} are taken"
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InstructionError(f"{name} is not valid UTF-8 text") from error
    return text
