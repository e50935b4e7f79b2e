"""What a vLLM request says about its grammar: three keys of `SamplingParams.extra_args`.

    earl_prefill           size, direct, reasoning or free (see `earl.sequence.Grammar`)
    earl_grid              "32*32" or [32, 32], rows and columns of image codes; needed for size
    earl_max_text_tokens   most ids of text before the image, >= 1

A request without any of them is not ours and is left alone. The keys are flat so that they also fit
`vllm_xargs` of vLLM's OpenAI endpoints. Standard library and our own light rooms only: vLLM's front
end reads this for every request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from earl.errors import SequenceError
from earl.records import Grid
from earl.sequence import MAX_CELLS, MAX_TEXT_TOKENS, Grammar, Prefill, TextTokenizer, parse_size

PREFIX = "earl_"
PREFILL, GRID, MAX_TEXT = "earl_prefill", "earl_grid", "earl_max_text_tokens"
KEYS = (PREFILL, GRID, MAX_TEXT)
LONGEST_TEXT = 65_536


@dataclass(frozen=True, slots=True)
class GrammarArguments:
    """The grammar of one request, checked.

    Raises:
        SequenceError: an unknown prefill, `size` without a grid, a grid with more than `MAX_CELLS`
            cells, or a text bound outside 1 to `LONGEST_TEXT`.
    """

    prefill: Prefill = "size"
    grid: Grid | None = None
    max_text_tokens: int = MAX_TEXT_TOKENS

    def __post_init__(self) -> None:
        if self.prefill not in get_args(Prefill):
            raise SequenceError(
                f"{PREFILL} must be one of {', '.join(get_args(Prefill))}, got {self.prefill!r}"
            )
        if self.prefill == "size" and self.grid is None:
            raise SequenceError(f'{PREFILL} = "size" needs {GRID}, e.g. "32*32"')
        if self.grid is not None and self.grid.height * self.grid.width > MAX_CELLS:
            raise SequenceError(f"{GRID} = {self.grid} has more than {MAX_CELLS} cells")
        number = self.max_text_tokens
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= LONGEST_TEXT:
            raise SequenceError(f"{MAX_TEXT} must be a whole number in 1 to {LONGEST_TEXT}, got {number!r}")

    @classmethod
    def read(cls, extra_args: Mapping[str, Any] | None) -> GrammarArguments | None:
        """The grammar that a request asks for; None where it asks for none.

        Raises:
            SequenceError: as the class, and for an unknown key that begins with `earl_`.
        """
        given = {key: value for key, value in (extra_args or {}).items() if key.startswith(PREFIX)}
        if not given:
            return None
        if unknown := sorted(set(given) - set(KEYS)):
            raise SequenceError(f"unknown argument {unknown[0]!r}; there are {', '.join(KEYS)}")
        values: dict[str, Any] = {}
        if PREFILL in given:
            values["prefill"] = given[PREFILL]
        if given.get(GRID) is not None:
            values["grid"] = _grid(given[GRID])
        if MAX_TEXT in given:
            values["max_text_tokens"] = given[MAX_TEXT]
        return cls(**values)

    def to_extra_args(self) -> dict[str, Any]:
        """The keys as they go into a request."""
        values: dict[str, Any] = {PREFILL: self.prefill, MAX_TEXT: self.max_text_tokens}
        if self.grid is not None:
            values[GRID] = str(self.grid)
        return values

    def grammar(self, tokenizer: TextTokenizer) -> Grammar:
        """The automaton for one completion."""
        return Grammar(tokenizer, self.prefill, self.grid, self.max_text_tokens)


def _grid(value: Any) -> Grid:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except SequenceError as error:
            raise SequenceError(f"{GRID}: {error}") from error
    sides = list(value) if isinstance(value, list | tuple) else []
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) for side in sides):
        raise SequenceError(f'{GRID} must read like "32*32" or [32, 32], got {value!r}')
    if min(sides) < 1:
        raise SequenceError(f"{GRID} needs at least 1 row and 1 column, got {value!r}")
    return Grid(*sides)
