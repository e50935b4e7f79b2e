"""Edits of several changes, carried out one change at a time.

A model whose `earl.json` has "steps" names the domain that reads its chains of thought. Where one asks for
several changes, each becomes an edit of its own: of the image that the one before gave, with its part of the
chain in front. The completion keeps the whole chain of thought and gets the last image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from earl.errors import ModelFormatError
from earl.pipeline.domain import domain_of
from earl.records import Completion
from earl.sequence.layout import opening_ids, parse_completion, write_image, write_prompt
from earl.sequence.reasoning import reasoning_body

if TYPE_CHECKING:
    from earl.config import SamplingSettings
    from earl.pipeline.edit import EditPipeline
    from earl.sampling import Request
    from earl.sequence.tokenizer import TextTokenizer

Split = Callable[[str], list[tuple[str, str]]]
"""A chain of thought as (instruction, chain of thought) of each of its steps; none where it is one edit."""


def split_of(meta: Mapping[str, Any], model: str) -> Split | None:
    """How the chains of thought of a model are split; None where they are not.

    Args:
        meta: the content of its `earl.json`.

    Raises:
        ModelFormatError: no registered domain; a model's file cannot name code to import.
    """
    if not (name := meta.get("steps")):
        return None
    split: Split | None = getattr(domain_of(str(name)), "split", None)
    if split is None:
        raise ModelFormatError(
            f"{model}: steps is {str(name)[:80]!r} in earl.json, which is no domain with steps; take it out"
        )
    return split


class Steps:
    """What is still to be done of one completion.

    Args:
        request: of the edit, whose `draft` are the source's codes.
        first: what the model wrote.

    Attributes:
        completion: what it wrote, with the image of the last step that was done.
    """

    def __init__(self, request: Request, first: Completion, tokenizer: TextTokenizer, split: Split) -> None:
        self.completion = first
        self._request, self._tokenizer = request, tokenizer
        parsed = parse_completion(first.ids, tokenizer)
        whole = parsed.codes is not None and parsed.problem is None
        self._left = split(parsed.reasoning) if whole and parsed.reasoning else []
        assert request.grid is not None and request.draft is not None
        shape = request.grid.height, request.grid.width
        self._codes_HW = np.array(request.draft, np.int32).reshape(shape)
        self._text = first.ids.index(tokenizer.vocabulary.boi) if self._left else 0

    def next(self) -> Request | None:
        """The next step; None where all are done."""
        if not self._left:
            return None
        instruction, chain = self._left.pop(0)
        tokenizer, negative = self._tokenizer, self._request.negative_prompt
        prompt = write_prompt(self._codes_HW, instruction, tokenizer)
        prompt += [*opening_ids(tokenizer), *tokenizer.encode(reasoning_body(chain))]
        if negative is not None:
            image = write_image(self._codes_HW, tokenizer)
            negative = (negative[0], *image, *negative[1 + len(image) :])
        seed = self.completion.seed
        return replace(
            self._request,
            prompt=tuple(prompt),
            seeds=self._request.seeds[:1] if seed is None else (seed,),
            prefill="size",
            negative_prompt=negative,
            draft=tuple(self._codes_HW.ravel().tolist()),
        )

    def take(self, drawn: Completion) -> None:
        """What the model wrote for the step that `next` gave. Without a whole image no more follow."""
        text, first = self._text, self.completion
        self.completion = replace(
            drawn,
            ids=(*first.ids[:text], *drawn.ids),
            logprobs=(*first.logprobs[:text], *drawn.logprobs),
            seed=first.seed,
        )
        codes_HW = parse_completion(drawn.ids, self._tokenizer).codes
        if codes_HW is None:
            self._left = []
        else:
            self._codes_HW = codes_HW


def carry_out(
    pipeline: EditPipeline,
    requests: Sequence[Request],
    completions: list[list[Completion]],
    sampling: SamplingSettings,
) -> list[list[Completion]]:
    """The completions of edits; those of several steps with the last step's image."""
    if (split := pipeline.split) is None:
        return completions
    chains = [
        [Steps(request, completion, pipeline.tokenizer, split) for completion in group]
        for request, group in zip(requests, completions, strict=True)
    ]
    flat = [chain for group in chains for chain in group]
    while asked := [(chain, request) for chain in flat if (request := chain.next())]:
        drawn = pipeline.engine.generate([request for _, request in asked], sampling)
        for (chain, _), (completion,) in zip(asked, drawn, strict=True):
            chain.take(completion)
    return [[chain.completion for chain in group] for group in chains]
