"""One edit or caption as the ids that are trained on, with the kind of each.

The kinds are those of the grammar that sampling runs under: chosen among the text columns, among
the visual columns, or forced (no loss, no gradient). A prompt is forced throughout.

Axes: T tokens, H W latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from earl.data.changes import stitch
from earl.data.shards import Edit
from earl.errors import DataError
from earl.records import FOUND
from earl.sequence.grammar import Prefill
from earl.sequence.kinds import Kind, completion_kinds
from earl.sequence.layout import write_completion, write_image, write_prompt
from earl.sequence.tokenizer import TextTokenizer

KEEP = (
    "keep the picture as it is",
    "keep it",
    "keep the scene",
    "copy the image",
    "change nothing",
    "keep the scene in the picture",
    "leave it as it is",
    "keep all",
    "keep all objects",
    "leave the scene",
    "make it the same",
    "make the image the same",
)
"""The instructions of an identity edit. They differ in length, as instructions of edits do: where
the source's cells lie, seen from the copy's, then has to be worked out from the sequence."""

COVER = 0
"""The code that covers what a question names, see `cover_example`."""

Task = Literal["caption_to_image", "image_to_caption", "identity"]


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence: ids (T,), kinds (T,) with FORCED where there is no loss, which visual tokens
    lie in a cell that the edit changes (T,), and how many ids BOS and the source image take:
    edits of one source can share them (0: nothing can be shared)."""

    ids: NDArray[np.int32]
    kinds: NDArray[np.int8]
    changed: NDArray[np.bool_]
    prefix: int = 0

    def __len__(self) -> int:
        return len(self.ids)


def edit_example(
    edit: Edit,
    tokenizer: TextTokenizer,
    *,
    prefill: Prefill = "direct",
    stitched: bool = False,
    score_forced: bool = False,
) -> Example:
    """An edit; the loss is on the completion only.

    Args:
        prefill: what sampling will force; "reasoning" writes the reasoning text first.
        stitched: outside the changed cells the target's codes are the source's own.
        score_forced: as the release, the loss is on the whole completion: what the prefill and the grammar
            force counts as text.

    Raises:
        DataError: the edit has no target image, or `prefill` is "reasoning" and it has no reasoning.
    """
    _needs_target(edit)
    if prefill == "reasoning" and not edit.reasoning:
        raise DataError(f"edit {edit.id} has no reasoning text; prepare it, or set data.reasoning=false")
    target = edit.target_codes
    if stitched:
        target = stitch(edit.source_codes, target, edit.changed).astype(np.int32)
    reasoning = edit.reasoning if prefill == "reasoning" else None
    completion = write_completion(target, tokenizer, reasoning)
    scored = completion_kinds(
        completion, tokenizer, "free" if score_forced else prefill, score_forced=score_forced
    )
    return _after_source(edit, edit.instruction, completion, scored, tokenizer, changed_HW=edit.changed)


def whole_example(edit: Edit, side: Literal[0, 1], task: Task, tokenizer: TextTokenizer) -> Example:
    """An image of an edit as a sequence; the loss is on all tokens.

    Args:
        side: 0 the source image, 1 the target.
        task: caption_to_image `BOS caption image EOS`, image_to_caption `BOS image caption EOS`,
            identity: the edit that keeps everything.

    Raises:
        DataError: a caption is needed and the shards have none.
    """
    vocabulary = tokenizer.vocabulary
    if side:
        _needs_target(edit)
    codes, text = (
        (edit.target_codes, edit.target_caption) if side else (edit.source_codes, edit.source_caption)
    )
    if task == "identity":
        wish = KEEP[crc32(f"{edit.id}/{side}".encode()) % len(KEEP)]
        ids = [*write_prompt(codes, wish, tokenizer), *write_completion(codes, tokenizer)]
    else:
        if not text:
            raise DataError(f"edit {edit.id} has no caption, which the tasks of captions need")
        image, words = write_image(codes, tokenizer), tokenizer.encode(text)
        body = [*words, *image] if task == "caption_to_image" else [*image, *words]
        ids = [vocabulary.bos, *body, vocabulary.eos]
    array = np.array(ids, np.int32)
    return Example(array, whole_kinds(array, tokenizer), np.zeros(len(array), bool))


def answer_example(edit: Edit, number: int, tokenizer: TextTokenizer) -> Example:
    """A question about the source image and its answer: `BOS image question answer EOS`.

    The loss is on the answer and EOS. `prefix` is as in `edit_example`: questions about one image
    can share it, with each other and with its edits.
    """
    answer = [*tokenizer.encode(" " + edit.answers[number]), tokenizer.vocabulary.eos]
    scored = np.full(len(answer), Kind.TEXT, np.int8)
    return _after_source(edit, edit.questions[number], answer, scored, tokenizer)


def cover_example(edit: Edit, number: int, tokenizer: TextTokenizer) -> Example:
    """A question that names solids, answered by an image: the source, with `COVER` in their cells.

    Laid out as the edit of the same image is, with the loss on the completion, but nothing in it is
    a matter of chance, and each cell depends on what the words name.

    Raises:
        DataError: the answer is not one word for each cell.
    """
    words = np.array(edit.answers[number].split())
    if words.size != edit.source_codes.size:
        raise DataError(
            f"edit {edit.id}: the answer to {edit.questions[number]!r} has {words.size} words, expected one "
            f"for each of {edit.source_codes.size} cells; prepare it again with --questions 2"
        )
    found_HW = (words == FOUND).reshape(edit.source_codes.shape)
    covered = np.where(found_HW, COVER, edit.source_codes).astype(np.int32)
    completion = write_completion(covered, tokenizer)
    scored = completion_kinds(completion, tokenizer, "direct")
    return _after_source(edit, edit.questions[number], completion, scored, tokenizer)


def whole_kinds(ids: NDArray[np.int32], tokenizer: TextTokenizer) -> NDArray[np.int8]:
    """Kinds of a sequence of which everything is trained on.

    BOI, the size and IMG are choices among text, as under the prefill "free"; EOL, EOF and EOI are
    forced, EOS too where it closes an image (after text it is a choice), and BOS begins.
    """
    v = tokenizer.vocabulary
    kinds = np.where(ids >= v.first_visual, Kind.VISUAL, Kind.TEXT).astype(np.int8)
    kinds[np.isin(ids, [v.bos, v.eol, v.eof, v.eoi, v.pad])] = Kind.FORCED
    closing = (ids[1:] == v.eos) & (ids[:-1] == v.eoi)
    kinds[1:][closing] = Kind.FORCED
    return kinds


def _after_source(
    edit: Edit,
    words: str,
    completion: Sequence[int],
    scored: NDArray[np.int8],
    tokenizer: TextTokenizer,
    *,
    changed_HW: NDArray[np.bool_] | None = None,
) -> Example:
    """The ids after the source image and some words; the loss is on those that `scored` marks.

    Args:
        scored: the kind of each id of the completion.
        changed_HW: which cells of the image in the completion the edit changes; None: none.
    """
    prompt = write_prompt(edit.source_codes, words, tokenizer)
    ids = np.array([*prompt, *completion], np.int32)
    kinds = np.concatenate([np.zeros(len(prompt), np.int8), scored])
    changed = np.zeros(len(ids), bool)
    if changed_HW is not None:
        changed[kinds == Kind.VISUAL] = changed_HW.ravel()
    return Example(ids, kinds, changed, prompt.index(tokenizer.vocabulary.eoi) + 1)


def _needs_target(edit: Edit) -> None:
    if not edit.has_target:
        raise DataError(
            f"edit {edit.id} has no target image, which supervised training needs; it can be used in "
            "reinforcement learning and in evaluation"
        )
