"""Pairs of edits as sequences and batches: the prompt once, the preferred edit, the other.

Axes: P pairs, B = 2 P sequences, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from earl.data.collate import Batch, Bundle
from earl.data.examples import edit_example
from earl.data.shards import Edit, EditShards
from earl.errors import DataError
from earl.sequence.layout import write_prompt
from earl.sequence.tokenizer import TextTokenizer


@dataclass(frozen=True, kw_only=True)
class PairBatch(Batch):
    """Rows 2 p and 2 p + 1 are the preferred edit of pair p and the other. `active` counts pairs, which is
    what the loss is divided by."""

    reference_P2: Tensor | None = None  # log-probabilities of the completions under the reference


def pair_examples(edit: Edit, tokenizer: TextTokenizer, *, stitched: bool = False) -> Bundle:
    """The two sequences of a pair. All of the prompt but its last id is shared, whose state predicts the
    first id of either completion. The size is forced, as it is in sampling: both have the same.

    Args:
        stitched: outside the cells that an edit changes its codes are the source's own.
    """
    prompt = write_prompt(edit.source_codes, edit.instruction, tokenizer)
    other = replace(edit, target_codes=edit.other_codes, changed=edit.other_changed)
    return [
        replace(edit_example(one, tokenizer, prefill="size", stitched=stitched), prefix=len(prompt) - 1)
        for one in (edit, other)
    ]


def pair_batch(batch: Batch) -> PairBatch:
    """A batch of pairs' sequences, as `collate` makes it."""
    return PairBatch(**{**vars(batch), "active": batch.sequences // 2})


def check_pairs(sources: Mapping[str, EditShards]) -> None:
    """Raises DataError where an edit has no other image to be preferred to."""
    for name, shards in sources.items():
        if lacking := shards.without_pair():
            raise DataError(
                f"{lacking} of {len(shards)} edits of {name} ({shards.name}) are no pairs: the other image "
                "is missing. Make pairs by `earl prepare edits --pair-gap 1`, or by `earl prepare` from rows "
                "with source, instruction, preferred and other"
            )
