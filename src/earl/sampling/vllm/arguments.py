"""Grammar arguments of a vLLM request: three keys of `SamplingParams.extra_args`.

A request without any of them is not ours and is left alone. The keys are flat so that they also fit
`vllm_xargs` of vLLM's OpenAI endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from earl.config.settings import Settings
from earl.errors import SequenceError
from earl.sampling.protocol import Request
from earl.sequence.grammar import MAX_TEXT_TOKENS, Grammar, Prefill
from earl.sequence.layout import parse_size
from earl.sequence.tokenizer import TextTokenizer

PREFIX = "earl_"


def _grid(value: object) -> object:
    """[32, 32] as "32*32"; what reads like neither is refused."""
    if isinstance(value, list | tuple) and len(value) == 2:
        value = "*".join(map(str, value))
    if isinstance(value, str):
        try:
            parse_size(value)
        except SequenceError as error:
            raise ValueError(str(error)) from error
    return value


class GrammarArguments(Settings):
    """The grammar of one request, checked.

    Raises:
        ConfigError: an unknown key or prefill, `size` without a grid, a grid with too many cells, or a text
            bound out of its range.
    """

    earl_prefill: Prefill = Field(default="size", description="how it begins, see `Grammar`")
    earl_grid: Annotated[str | None, BeforeValidator(_grid)] = Field(
        default=None, description='rows and columns of image codes, "32*32" or [32, 32]; needed for size'
    )
    earl_max_text_tokens: int = Field(
        default=MAX_TEXT_TOKENS, ge=1, le=65_536, description="most ids of text before the image"
    )

    def problems(self) -> Iterator[str]:
        if self.earl_prefill == "size" and self.earl_grid is None:
            yield 'earl_prefill = "size" needs earl_grid, e.g. "32*32"'

    @classmethod
    def read(cls, extra_args: Mapping[str, Any] | None) -> GrammarArguments | None:
        """The grammar that a request asks for; None where it asks for none. Raises ConfigError."""
        given = {key: value for key, value in (extra_args or {}).items() if key.startswith(PREFIX)}
        return cls(**given) if given else None

    @classmethod
    def of(cls, request: Request) -> GrammarArguments:
        """Those of a request of ours."""
        return cls(
            earl_prefill=request.prefill,
            earl_grid=str(request.grid) if request.grid else None,
            earl_max_text_tokens=request.max_text_tokens,
        )

    def to_extra_args(self) -> dict[str, Any]:
        """The keys as they go into a request."""
        return self.model_dump(exclude_none=True)

    def grammar(self, tokenizer: TextTokenizer) -> Grammar:
        """The automaton for one completion."""
        grid = parse_size(self.earl_grid) if self.earl_grid else None
        return Grammar(tokenizer, self.earl_prefill, grid, self.earl_max_text_tokens)
