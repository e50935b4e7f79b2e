"""Samples of the native engine: what of a completion is cached, and the guesses from its draft."""

from __future__ import annotations

from dataclasses import dataclass, field

from earl.config import SamplingSettings
from earl.sampling.completions import Sample
from earl.sampling.protocol import OnCompletion

_FIRST_GUESSES = 4


@dataclass(slots=True)
class NativeSample(Sample):
    """One completion in progress.

    Attributes:
        unit: what it belongs to.
        sampling: how its ids are drawn.
        finish: called with (index, completion) when it ends.
        prompt_length: of its prompt, or of the longer one with guidance.
        fed: ids of it that are cached.
        draft: ids that its cells are likely to have.
        ahead: cells to guess in the next step.
        guesses: ids fed behind the real ones of this step.
        places: where this step draws, counted in fed ids behind the last real one.
    """

    unit: object = field(kw_only=True)
    sampling: SamplingSettings = field(kw_only=True)
    finish: OnCompletion = field(kw_only=True)
    prompt_length: int = 0
    fed: int = 0
    draft: tuple[int, ...] = ()
    ahead: int = _FIRST_GUESSES
    guesses: tuple[int, ...] = ()
    places: tuple[int, ...] = (0,)
    ended: bool = False

    @property
    def unfed(self) -> list[int]:
        return self.ids[self.fed :]

    @property
    def guessed(self) -> list[int]:
        """The visual ids among this step's guesses."""
        return [self.guesses[place] for place in self.places[:-1]]

    def guess(self, room: int, end_of_row: int) -> None:
        """Take at most `room` ids from the draft to feed behind the real ones, and say where to draw."""
        grid, cell = self.state.grid, self.next_cell(len(self.draft))
        if grid is None or cell is None:
            return
        guesses, places = [], [0]
        for code in self.draft[cell : min(cell + self.ahead, len(self.draft) - 1)]:
            guesses.append(code)
            cell += 1
            if cell % grid.width == 0:
                guesses.append(end_of_row)
            if len(guesses) > room:
                break
            places.append(len(guesses))
        self.guesses, self.places = tuple(guesses[: places[-1]]), tuple(places)

    def settle(self, right: int, most: int) -> None:
        """After a step whose first `right` guesses were right: how many to guess in the next one.

        Many where the draft holds, one where it does not: wrong guesses are wasted work.
        """
        if self.guesses:
            all_right = right == len(self.guessed)
            self.ahead = min(4 * self.ahead if all_right else max(2 * right, self.ahead // 2, 1), most)
        self.guesses, self.places = (), (0,)
