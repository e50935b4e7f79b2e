"""The `Engine` protocol, and the requests that every engine takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from earl.errors import ConfigError, SequenceError
from earl.records import Completion, Grid
from earl.sequence.grammar import MAX_TEXT_TOKENS, Grammar, Prefill
from earl.sequence.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from earl.config import SamplingSettings

OnRow: TypeAlias = Callable[[int, int, NDArray[np.int32]], None]
"""Called with (sample, row, its codes) when a row of an image is complete, in the order of a sample's rows.

Samples are numbered through all requests in order.
"""
OnCompletion: TypeAlias = Callable[[int, Completion], None]
"""Called with (sample, completion) when one ends."""


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how many completions of it are wanted.

    Args:
        prompt: token ids, at least one; computed once for all its completions.
        seeds: one completion per seed, 0 <= seed < 2**63; the same seed gives the same completion.
        grid: the edited image's latent grid; needed for the prefill "size".
        prefill: how the completion begins (see `earl.sequence.grammar.Grammar`).
        max_text_tokens: most ids of text before the image.
        negative_prompt: ids of the prompt that guidance leads away from, such as the same image with
            another instruction; of any length. Not used without guidance.
        draft: codes of an image that the completion's is likely to repeat in many cells, row by row, such
            as the source's. They are guesses that save steps and change no completion; an image of
            another number of cells is written without them.
        given: codes by cell, row by row, that are not drawn but taken as they are; -1 for a cell that is
            drawn. An image of another number of cells is drawn whole.

    Raises:
        SequenceError: no ids, no seeds, or a seed out of range.
    """

    prompt: tuple[int, ...]
    seeds: tuple[int, ...]
    grid: Grid | None = None
    prefill: Prefill = "size"
    max_text_tokens: int = MAX_TEXT_TOKENS
    negative_prompt: tuple[int, ...] | None = None
    draft: tuple[int, ...] | None = None
    given: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise SequenceError("a request needs a prompt of at least one id")
        if self.negative_prompt is not None and not self.negative_prompt:
            raise SequenceError("the negative prompt has no ids; give at least one, or None")
        if not self.seeds:
            raise SequenceError("a request needs at least one seed, one per completion")
        for seed in self.seeds:
            if not 0 <= seed < 2**63:
                raise SequenceError(f"a seed must lie in 0 to 2**63 - 1, got {seed}")

    def grammar(self, tokenizer: TextTokenizer) -> Grammar:
        """The rule for its completions."""
        return Grammar(tokenizer, self.prefill, self.grid, self.max_text_tokens)

    def prompts(self, guided: bool) -> tuple[tuple[int, ...], ...]:
        """Its prompt, and with guidance the negative one. Raises ConfigError where that one is missing."""
        if not guided:
            return (self.prompt,)
        if self.negative_prompt is None:
            raise ConfigError("guidance needs a prompt to lead away from; a request has no negative_prompt")
        return self.prompt, self.negative_prompt


class EngineSession(Protocol):
    """Requests in progress together, which join and leave at any step. Not for several threads at once."""

    @property
    def room(self) -> int:
        """Samples that may still join."""
        ...

    def insert(
        self,
        request: Request,
        sampling: SamplingSettings,
        on_row: OnRow | None = None,
        on_completion: OnCompletion | None = None,
    ) -> int:
        """Let a request join at the next step; its samples are numbered from 0.

        Returns:
            A ticket, for `remove`.

        Raises:
            SequenceError, ConfigError: as `Engine.generate`; also more samples than there is room for.
        """
        ...

    def remove(self, ticket: int) -> None:
        """Drop a request; nothing for one that is through."""
        ...

    def step(self) -> bool:
        """Take one step for all. Returns whether any request is left."""
        ...


class Engine(Protocol):
    """Samples completions from one policy. `earl.sampling.create_engine` makes one from settings."""

    @property
    def tokenizer(self) -> TextTokenizer:
        """The policy's text tokenizer, whose vocabulary the grammar uses."""
        ...

    @property
    def max_positions(self) -> int:
        """Ids of prompt and completion together, at most."""
        ...

    def generate(
        self,
        requests: Sequence[Request],
        sampling: SamplingSettings | None = None,
        on_row: OnRow | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[list[Completion]]:
        """Complete every request once per seed.

        Args:
            requests: prompts, seeds, grids, prefills; they may differ.
            sampling: how to draw; its seed, negative instruction and reasoning are what the requests say.
            on_row, on_completion: called while sampling goes on.

        Returns:
            Per request, its completions in the order of its seeds. A completion ends with "length"
            where text ran past its bound or the model's positions before the image was whole.

        Raises:
            SequenceError: ids outside the vocabulary, or an image too long for the model's positions.
            ConfigError: guidance that this engine or a request cannot have.
            EngineError: an engine outside our own failed.
        """
        ...

    def open_session(self) -> EngineSession:
        """Sampling that requests join and leave at any step, on the weights as they are now."""
        ...
