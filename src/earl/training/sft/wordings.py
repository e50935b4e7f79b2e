"""Rewording of instructions each time an edit is drawn, by a function that the recipe names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from earl.data.mixture import Mixture
from earl.data.shards import Edit
from earl.registry import WORDINGS

Wording = Callable[[str, np.random.Generator], str]
"""(a shard's request, or a question; random generator) -> a wording of it."""
_STREAM = 79


class Rewording:
    """Words the edits of a mixture anew; the same position in the mixture gives the same words.

    Args:
        name: `data.wordings`; None leaves every instruction as it is.
    """

    def __init__(self, name: str | None, seed: int) -> None:
        self._wording: Wording | None = WORDINGS.load(name) if name is not None else None
        self._seed = seed
        self.mixture: Mixture | None = None

    def __call__(self, edit: Edit, *, part: int = 0, questions: bool = False) -> Edit:
        """The edit in new words. With `questions` its questions are worded anew instead."""
        if self._wording is None or self.mixture is None:
            return edit
        drawn = sum(self.mixture.drawn.values())
        rng = np.random.default_rng([self._seed, _STREAM, drawn, part])
        if questions:
            wording = self._wording
            return replace(edit, questions=tuple(wording(question, rng) for question in edit.questions))
        return replace(edit, instruction=self._wording(edit.request, rng)) if edit.request else edit
