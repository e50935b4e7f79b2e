"""One completion in progress: what is written, what is cached, and what its draft says comes next."""

from __future__ import annotations

from dataclasses import dataclass

from earl.sequence.grammar import GrammarState

_FIRST_GUESSES = 4


@dataclass(slots=True)
class Sample:
    """One completion in progress."""

    index: int
    seed: int
    prompt_length: int  # the longer one's, where there are two
    state: GrammarState
    ids: list[int]
    logprobs: list[float]
    fed: int
    body: int  # where the rows begin, -1 while that is not known
    draft: tuple[int, ...] = ()  # ids, by cell
    ahead: int = _FIRST_GUESSES  # cells to guess in the next step
    guesses: tuple[int, ...] = ()  # ids fed behind the real ones of this step
    places: tuple[int, ...] = (0,)  # where this step draws: so many fed ids behind the last real one
    rows: int = 0
    ended: bool = False

    @property
    def unfed(self) -> list[int]:
        return self.ids[self.fed :]

    @property
    def guessed(self) -> list[int]:
        """The visual ids among this step's guesses."""
        return [self.guesses[place] for place in self.places[:-1]]

    def guess(self, room: int, end_of_row: int) -> None:
        """Take ids from the draft to feed behind the real ones, `room` at most, and say where to draw."""
        grid = self.state.grid
        if self.body < 0 or grid is None or grid.height * grid.width != len(self.draft):
            return
        at = len(self.ids) - self.body  # of the next id in the image; its rows are one id wider
        cell = at - at // (grid.width + 1)
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
        """After a step in which the first so many guesses were right: how far to guess in the next one.

        Far where the draft holds, one cell where it does not: wrong guesses are wasted work.
        """
        if self.guesses:
            all_right = right == len(self.guessed)
            self.ahead = min(4 * self.ahead if all_right else max(2 * right, self.ahead // 2, 1), most)
        self.guesses, self.places = (), (0,)
