"""Checks of an instruction before it becomes ids."""

from __future__ import annotations

from earl.errors import InstructionError

MAX_INSTRUCTION_CHARACTERS = 2_000
NEGATIVE_INSTRUCTION = "keep the picture as it is"  # what guidance leads away from, unless told


def check_instruction(instruction: str, name: str = "the instruction") -> str:
    """An instruction without blank ends.

    Args:
        instruction: 1 to 2,000 characters.
        name: what to call it where it is refused.

    Raises:
        InstructionError: empty, too long, or not text.
    """
    if not isinstance(instruction, str):
        raise InstructionError(f"{name} must be text, got {type(instruction).__name__}")
    text = instruction.strip()
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
