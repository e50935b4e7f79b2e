"""Rewording of tasks: in the language of training, in held-out language, or as a request for nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, get_args
from zlib import crc32

import numpy as np

from earl.errors import DataError, InstructionError
from earl.world.language.naming import Named, name_solids, vary
from earl.world.language.other import write_other
from earl.world.language.request import OTHER, Request
from earl.world.language.writing import phrase, phrase_unseen
from earl.world.tasks import WorldTask

Wordings = Literal["own", "mixed", "heldout", "pairs", "constructions", "unseen", "other"]
"""own: the task's plain wording · mixed: the language of training · pairs: words of operations with which
training never shows them · constructions: sentences that training never shows, in words that it does ·
unseen: one word that training never shows · heldout: one of these three · other: held-out sentences that
ask for nothing of this world."""
WORDINGS: tuple[Wordings, ...] = get_args(Wordings)
_HELD_OUT: tuple[Wordings, ...] = ("pairs", "constructions", "unseen")
_STREAM = 83


def reword(task: WorldTask, wordings: Wordings, seed: int = 0) -> WorldTask:
    """A task with its instruction and request in other words; the target stays.

    With "other" the instruction asks for nothing, so the target is the source and the family is "other".

    Raises:
        DataError: unknown wordings.
    """
    if wordings not in WORDINGS:
        raise DataError(f"unknown wordings {wordings!r}; expected one of {', '.join(WORDINGS)}")
    if wordings == "own":
        return task
    rng = np.random.default_rng([_STREAM, seed, crc32(task.id.encode())])
    if wordings == "other":
        return as_other(task, write_other(rng, heldout=True))
    chosen = _HELD_OUT[int(rng.integers(len(_HELD_OUT)))] if wordings == "heldout" else wordings
    named = name_solids(task.request, task.source, task.target)
    try:
        request, instruction = _worded(named, chosen, rng)
    except InstructionError:  # a few requests have no such wording
        request, instruction = task.request, phrase(task.request, rng)
    return replace(task, request=request, instruction=instruction)


def _worded(named: Named, wordings: Wordings, rng: np.random.Generator) -> tuple[Request, str]:
    if wordings == "unseen":
        whole = replace(named.request, then=named.then.request if named.then else None)
        return whole, phrase_unseen(whole, named.names, rng)
    request = vary(named, rng)
    return request, phrase(request, rng, "train" if wordings == "mixed" else wordings)


def as_other(task: WorldTask, instruction: str) -> WorldTask:
    """The task's source with a sentence that asks for nothing of it."""
    return replace(
        task,
        id=f"{task.id}-other",
        target=task.source,
        request=Request(OTHER),
        instruction=instruction,
        family=OTHER,
        group=OTHER,
        boxes=(),
        reasoning="",
    )
