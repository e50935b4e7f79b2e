"""What is asked of the engine: requests and how to draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

from earl.errors import ConfigError, SequenceError
from earl.records import Grid
from earl.sequence import MAX_TEXT_TOKENS, Prefill


@dataclass(frozen=True, slots=True)
class Sampling:
    """How ids are drawn. Temperature 1, top-k 2048, top-p 1 are the paper's at inference.

    Args:
        temperature: logits are divided by it, > 0.
        top_k: draw among the k most likely allowed ids only; 0 means all.
        top_p: draw among the most likely ids that together have this probability, in (0, 1].
        greedy: take the most likely id; temperature then only scales the reported log-probabilities.
        guidance: classifier-free guidance of visual ids away from each request's `away` prompt, finite
            and at least 1; 1 is none, and costs nothing. Above 1 each sample has a twin, fed the same ids
            after `away`, and is drawn from `earl.sampling.native.draw.guided`. Text that a model writes
            (reasoning, its own size) is drawn as if there were none.

    Raises:
        ConfigError: a value out of its range.
    """

    temperature: float = 1.0
    top_k: int = 2048
    top_p: float = 1.0
    greedy: bool = False
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ConfigError(
                f"temperature must be above 0, got {self.temperature}; for no chance use greedy"
            )
        if self.top_k < 0:
            raise ConfigError(f"top_k must be at least 0 (0 = all), got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not (math.isfinite(self.guidance) and self.guidance >= 1):
            raise ConfigError(
                f"guidance must be a finite number of at least 1 (1 = none), got {self.guidance}"
            )

    @property
    def guided(self) -> bool:
        """Whether samples have twins."""
        return self.guidance != 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt and how many completions of it are wanted.

    Args:
        prompt: token ids, at least one; computed once for all its completions.
        seeds: one completion per seed, 0 <= seed < 2**63; the same seed gives the same completion.
        grid: the edited image's latent grid; needed for the prefill "size".
        prefill: how the completion begins (see `earl.sequence.Grammar`).
        max_text_tokens: most ids of text before the image.
        away: ids of the prompt that guidance leads away from, such as the same image with another
            instruction; of any length, computed once for all completions. Without guidance it is not
            looked at.
        draft: codes of an image that the completion's is likely to repeat in many cells, row by row, such
            as the source's. They are guesses to save steps and change no completion; an image of
            another number of cells is written without them.

    Raises:
        SequenceError: no ids, no seeds, or a seed out of range.
    """

    prompt: tuple[int, ...]
    seeds: tuple[int, ...]
    grid: Grid | None = None
    prefill: Prefill = "size"
    max_text_tokens: int = MAX_TEXT_TOKENS
    away: tuple[int, ...] | None = None
    draft: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not self.prompt:
            raise SequenceError("a request needs a prompt of at least one id")
        if self.away is not None and not self.away:
            raise SequenceError("the prompt to guide away from has no ids; give at least one, or None")
        if not self.seeds:
            raise SequenceError("a request needs at least one seed, one per completion")
        for seed in self.seeds:
            if not 0 <= seed < 2**63:
                raise SequenceError(f"a seed must lie in 0 to 2**63 - 1, got {seed}")
