"""The cores of each operation: what is asked for, without the frame of the sentence around it.

(a|b) are alternatives, [a] may be left out; slots in braces are filled from the request:
{ref} {ref2} {ref3} solids with "the" · {bare} the same without it · {kind} a new solid with "a" ·
{count} a number of solids · {kinds} solids in the plural · {number} · {more} "another red cube" ·
{color} {background} {style} {when} {side} · {beside} to the left or right of · {on} on top of ·
{small} {large} {striped} {plain} adjectives · {all} everything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """The cores of an operation by form, see `frames`; `whole` are sentences that need no frame."""

    subject: str
    do: tuple[str, ...]
    done: tuple[str, ...]
    act: tuple[str, ...]
    whole: tuple[str, ...]


IN_THE_PICTURE = "[(in|into|to) the picture]"
