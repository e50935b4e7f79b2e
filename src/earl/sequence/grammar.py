"""The completion grammar: an automaton that says which ids may come next.

At each position a state allows *text* (any id below first_visual), a *visual* token, one
*forced* id, or nothing more (*done*). How a completion begins is its prefill:

    size        BOI "H*W" IMG are all forced; the grid is given
    direct      BOI is forced; the model writes "H*W" and IMG
    reasoning   the reasoning opening is forced; the model writes text, BOI, "H*W", IMG
    free        the model writes everything up to IMG

A grid given together with `reasoning`, `direct` or `free` forces "H*W" IMG after BOI. After IMG the
rule is the same for all: W visual tokens and EOL, H times, then EOF, EOI, EOS, then done. Every
path ends: text is bounded by `max_text_tokens`, the size by `MAX_SIZE_IDS` and `max_cells`.

Source: the constraint of the EARL release, which never ends for W < 3; ours does from 1x1 on.
"""

from __future__ import annotations

from copy import copy
from enum import Enum
from typing import Literal, get_args

from earl.errors import SequenceError
from earl.records import Grid
from earl.sequence.layout import MAX_CELLS, MAX_SIZE_IDS, body_length, opening_ids, parse_size, size_ids
from earl.sequence.tokenizer import TextTokenizer

Prefill = Literal["size", "direct", "reasoning", "free"]
Allowed = tuple[Literal["text", "visual", "forced", "done"], int | None]

MAX_TEXT_TOKENS = 1_024
TEXT: Allowed = ("text", None)
VISUAL: Allowed = ("visual", None)
DONE: Allowed = ("done", None)


class _Phase(Enum):
    OPENING = 0  # forced ids of the prefill
    THOUGHT = 1  # text before BOI
    SIZE = 2  # text between BOI and IMG
    BODY = 3  # after IMG
    DONE = 4


class Grammar:
    """The rule for one completion; position 0 is the completion's first id.

    Args:
        tokenizer: encodes the forced text, decodes the size a model wrote.
        prefill: how the completion begins.
        grid: needed for `size`; with another prefill it forces the size after BOI.
        max_text_tokens: most ids a model may write before BOI, the forced opening apart, >= 1.
        max_cells: most cells H * W of an image, 1 to `MAX_CELLS`.

    Raises:
        SequenceError: unknown prefill, `size` without a grid, a grid above `max_cells`, or a
            bound out of its range.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        prefill: Prefill = "size",
        grid: Grid | None = None,
        max_text_tokens: int = MAX_TEXT_TOKENS,
        max_cells: int = MAX_CELLS,
    ) -> None:
        if prefill not in get_args(Prefill):
            raise SequenceError(f"prefill must be one of {', '.join(get_args(Prefill))}, got {prefill!r}")
        if max_text_tokens < 1:
            raise SequenceError(f"max_text_tokens must be at least 1, got {max_text_tokens}")
        if not 1 <= max_cells <= MAX_CELLS:
            raise SequenceError(f"max_cells must lie in 1 to {MAX_CELLS}, got {max_cells}")
        if grid is None and prefill == "size":
            raise SequenceError("the prefill 'size' needs a grid")
        if grid is not None and grid.height * grid.width > max_cells:
            raise SequenceError(f"a grid of {grid} has more than {max_cells} cells")
        self.tokenizer = tokenizer
        self.prefill = prefill
        self.grid = grid
        self.max_text_tokens = max_text_tokens
        self.max_cells = max_cells
        head = [] if grid is None else size_ids(grid, tokenizer)
        self._size_ids = tuple(head[1:])
        opening = {
            "size": [tokenizer.vocabulary.boi],
            "direct": [tokenizer.vocabulary.boi],
            "reasoning": opening_ids(tokenizer),
            "free": [],
        }[prefill]
        self._opening = tuple(opening)
        self._after_opening = _Phase.SIZE if prefill in ("size", "direct") else _Phase.THOUGHT

    def start(self) -> GrammarState:
        """The state before the first id of a completion."""
        return GrammarState(self)

    @property
    def starts_in_size(self) -> bool:
        """Whether the size follows the opening at once, with no text between."""
        return self._after_opening is _Phase.SIZE

    @property
    def forced_size(self) -> tuple[int, ...]:
        """The ids "H*W" IMG that are forced after BOI; () where the model writes the size."""
        return self._size_ids

    @property
    def max_length(self) -> int:
        """No completion under this rule has more ids than this, EOS included."""
        text = self.max_text_tokens + 1 if self._after_opening is _Phase.THOUGHT else 0
        if self.grid is not None:
            return len(self._opening) + text + len(self._size_ids) + body_length(self.grid) + 1
        # H rows of W cells take H * W + H ids, most where the image is one column
        return len(self._opening) + text + MAX_SIZE_IDS + 1 + 2 * self.max_cells + 3


class GrammarState:
    """State of one completion. Changed by `advance`; `copy` is cheap.

    Attributes:
        position: number of ids taken so far.
        grid: the image's grid once it is known, else None.
        problem: why the completion ended without a whole image, else None.
        allowed: what the next id may be: ("text", None), ("visual", None), ("forced", id), or
            ("done", None) at the end.
    """

    __slots__ = ("_due", "_offset", "_phase", "_pieces", "allowed", "grammar", "grid", "position", "problem")

    def __init__(self, grammar: Grammar) -> None:
        self.grammar = grammar
        self.position = 0
        self.grid = grammar.grid
        self.problem: str | None = None
        self._due = grammar._opening  # forced ids of this phase, `_offset` of which are written
        self._offset = 0
        self._pieces: tuple[int, ...] = ()  # text ids of this phase
        self._phase = _Phase.OPENING
        self.allowed: Allowed = DONE
        if self._due:
            self.allowed = ("forced", self._due[0])
        else:
            self._enter(grammar._after_opening)

    @property
    def done(self) -> bool:
        """Whether the completion is at its end."""
        return self._phase is _Phase.DONE

    @property
    def in_body(self) -> bool:
        """Whether IMG is written and the image is not yet closed by EOS."""
        return self._phase is _Phase.BODY

    @property
    def rows_done(self) -> int:
        """Number of whole rows of visual tokens written so far."""
        if self.grid is None or self._phase not in (_Phase.BODY, _Phase.DONE) or self.problem:
            return 0
        return min((self._offset + 1) // (self.grid.width + 1), self.grid.height)

    def copy(self) -> GrammarState:
        """An independent state at the same place."""
        return copy(self)

    def forced_ahead(self) -> list[int]:
        """The ids forced from here on, up to the next choice or the end; [] where there is a choice."""
        state, ids = self.copy(), []
        while state.allowed[0] == "forced":
            token_id = state.allowed[1]
            assert token_id is not None
            ids.append(token_id)
            state.advance(token_id)
        return ids

    def advance(self, token_id: int) -> GrammarState:
        """Take one id; the state moves on and is returned.

        Raises:
            SequenceError: the id is not allowed here (names the position), or the completion
                is already at its end.
        """
        kind, forced = self.allowed
        vocabulary = self.grammar.tokenizer.vocabulary
        if kind == "visual":
            right = vocabulary.is_visual(token_id)
        elif kind == "text":
            right = 0 <= token_id < vocabulary.first_visual
        else:
            right = kind == "forced" and token_id == forced
        if not right:
            due = vocabulary.describe(forced) if forced is not None else kind
            raise SequenceError(
                f"position {self.position}: expected {due}, got {vocabulary.describe(int(token_id))}"
            )
        self.position += 1
        if self._phase is _Phase.BODY:
            self._advance_body()
        elif kind == "forced":
            self._advance_forced()
        elif self._phase is _Phase.THOUGHT:
            self._advance_thought(token_id)
        else:
            self._advance_size(token_id)
        return self

    def _advance_forced(self) -> None:
        self._offset += 1
        if self._offset < len(self._due):
            self.allowed = ("forced", self._due[self._offset])
        elif self._phase is _Phase.OPENING:
            self._enter(self.grammar._after_opening)
        else:
            self._enter(_Phase.BODY)

    def _advance_thought(self, token_id: int) -> None:
        vocabulary = self.grammar.tokenizer.vocabulary
        if token_id == vocabulary.boi:
            self._enter(_Phase.SIZE)
        elif token_id >= vocabulary.first_special:
            self._fail(f"{vocabulary.describe(token_id)} where text or an image was due")
        else:
            self._offset += 1
            if self._offset >= self.grammar.max_text_tokens:
                self._fail(f"{self._offset} ids of text and no image")

    def _advance_size(self, token_id: int) -> None:
        vocabulary = self.grammar.tokenizer.vocabulary
        if token_id == vocabulary.img:
            try:
                text = self.grammar.tokenizer.decode(self._pieces)
                self.grid = parse_size(text, max_cells=self.grammar.max_cells)
            except SequenceError as error:
                self._fail(str(error))
            else:
                self._enter(_Phase.BODY)
        elif token_id >= vocabulary.first_special:
            self._fail(f"{vocabulary.describe(token_id)} inside an image size")
        else:
            self._pieces = (*self._pieces, token_id)
            if len(self._pieces) >= MAX_SIZE_IDS:
                self._fail(f"an image size of more than {MAX_SIZE_IDS - 1} ids")

    def _advance_body(self) -> None:
        grid = self.grid
        assert grid is not None
        vocabulary = self.grammar.tokenizer.vocabulary
        self._offset += 1
        rows = grid.height * (grid.width + 1)
        if self._offset < rows:
            ends_row = (self._offset + 1) % (grid.width + 1) == 0
            self.allowed = ("forced", vocabulary.eol) if ends_row else VISUAL
        elif self._offset < rows + 3:
            closing = (vocabulary.eof, vocabulary.eoi, vocabulary.eos)
            self.allowed = ("forced", closing[self._offset - rows])
        else:
            self._phase, self.allowed = _Phase.DONE, DONE

    def _enter(self, phase: _Phase) -> None:
        self._phase, self._offset, self._pieces = phase, 0, ()
        if phase is _Phase.BODY:
            self.allowed = VISUAL
        elif phase is _Phase.SIZE and self.grammar.grid is not None:
            self._due = self.grammar._size_ids
            self.allowed = ("forced", self._due[0])
        else:
            self.allowed = TEXT

    def _fail(self, problem: str) -> None:
        self.problem = f"position {self.position - 1}: {problem}"
        self._phase, self.allowed = _Phase.DONE, DONE
