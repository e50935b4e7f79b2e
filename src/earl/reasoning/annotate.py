"""Chains of thought for a prepared set: the same shards again, with reasoning text.

Every shard is asked through before it is written, whole, by one rename; every raw answer is in a
file before it is read. So a run that is killed, or whose endpoint goes away, goes on where it
stopped and asks nothing twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from PIL import Image

from earl.config.data import ReasoningSettings
from earl.data.card import drop_card, read_card, write_card
from earl.data.changes import changed_boxes
from earl.data.prepare import REJECTED, Totals
from earl.data.shards import PART, Edit, open_shard, read_manifest, shard_folders, start_folder, write_shard
from earl.endpoints.message import content_of, data_url
from earl.errors import DataError
from earl.files import clear_partial, json_lines, read_object, write_text
from earl.reasoning.asking import Asker, Outcome, Question, Tally
from earl.reasoning.chains import read_chain
from earl.reasoning.images import Images
from earl.reasoning.questions import Template
from earl.records import Box, Point
from earl.sequence.reasoning import MAX_REASONING_CHARACTERS, format_box, scale_box, scale_point
from earl.store import RecordFile, only_one

ANSWERS = "answers"
_UNCHANGED = 16  # levels (0-255) up to which pixels count as unchanged
_SURE = 20  # edits from which a share of rejected ones is judged


async def make_reasoning(
    prepared: str | Path,
    folder: str | Path,
    asker: Asker,
    template: Template,
    images: Images,
    settings: ReasoningSettings | None = None,
    *,
    on_progress: Callable[[Totals, Tally], None] | None = None,
) -> Totals:
    """Write the shards of `prepared` with chains of thought into `folder`, or continue there.

    Edits without a usable answer are left out and named in `rejected.jsonl` (id, reason). Answers are in
    `answers/`, a file a shard. A folder that was made with a limit goes on with a larger one or none, and
    keeps what it has with a smaller one.

    Raises:
        DataError: no shards, a folder made otherwise, too many rejected, or questions left without an
            answer (what is done is kept; the same command goes on).
        EndpointError: the endpoint is not ready.
    """
    prepared, folder, settings = Path(prepared), Path(folder), settings or ReasoningSettings()
    manifest, shards = read_manifest(prepared), shard_folders(prepared)
    writer = {"model": await asker.check(), "prompts": template.version, "prompts_hash": template.hash}
    made = {name: value for name, value in manifest.items() if name != "format"}
    start_folder(folder, {**made, "reasoning": {**writer, "side": settings.side}})
    totals, left = Totals(), settings.limit or None
    with only_one(folder):
        clear_partial(folder)
        for shard in shards:
            done = _done(folder / shard.name)
            if left == 0 and not done.shards:
                continue
            rows = open_shard(shard, manifest)
            wanted = len(rows) if left is None else min(left, len(rows))
            left = None if left is None else left - wanted
            if done.shards and done.looked >= wanted:
                totals.add(vars(done))
                continue
            edits = [rows[place] for place in range(wanted)]
            show = partial(on_progress, totals, asker.tally) if on_progress else None
            answers = RecordFile[dict[str, Any]](folder / ANSWERS / f"{shard.name}.jsonl")
            ask = _ChainQuestions(template, asker.model, images.exact, settings, rows.margin)
            outcomes = await asker.settle(ask.about(edits, shard, images), answers, on_done=show)
            if asker.stopped:
                break
            number = int(shard.name.rpartition("-")[2])
            if part := _write(folder, number, edits, outcomes, str(manifest.get("split", ""))):
                totals.add(part)
            _check_share(totals, folder, settings)
    _gather_rejected(folder)
    if asker.stopped or asker.tally.unanswered:
        raise DataError(
            f"{asker.tally.unanswered} questions got no answer ({asker.tally.last_error}); {totals.shards} "
            f"of {len(shards)} shards are done and every answer is kept: run the same command again to go on"
        )
    if not totals.edits:
        raise DataError(f"no edit got a chain of thought; the reasons are in {folder / REJECTED}")
    _check_share(totals, folder, settings, sure=1)
    written = {**writer, "chains": totals.edits, "rejected": totals.rejected}
    write_card(folder, **_facts_of(prepared), reasoning=written)
    return totals


def _done(shard: Path) -> Totals:
    """Totals that a shard's own record has; `shards` is 0 where there is none."""
    totals = Totals()
    if (shard / PART).is_file():
        totals.add(read_object(shard / PART))
    return totals


@dataclass(frozen=True)
class _ChainQuestions:
    """Questions about edits. `exact`: the images are as they came; `margin`: see `estimate_boxes`."""

    template: Template
    model: str
    exact: bool
    settings: ReasoningSettings
    margin: int

    def about(self, edits: Sequence[Edit], shard: Path, images: Images) -> Iterator[Question[str]]:
        """One about each edit that has a target."""
        able = [place for place, edit in enumerate(edits) if edit.has_target]
        pairs = images.of(shard, [edits[place] for place in able])
        for place, pair in zip(able, pairs, strict=True):
            yield self._question(place, edits[place], pair)

    def _question(self, place: int, edit: Edit, pair: tuple[Image.Image, Image.Image]) -> Question[str]:
        """Boxes are asked for in pixels of the images as they are shown."""
        height, width = edit.source_codes.shape
        size = width * 8, height * 8
        scale = self.settings.side / max(size)
        shown = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        shown_pair = pair if self.exact else None
        known = edit.boxes or estimate_boxes(edit, shown_pair, self.margin)
        boxes = [scale_box(box, size, shown) for box in known]
        values = {
            "instruction": edit.instruction,
            "width": str(shown[0]),
            "height": str(shown[1]),
            "facts": _facts(edit, boxes, [scale_point(point, size, shown) for point in edit.keypoints]),
            "characters": str(MAX_REASONING_CHARACTERS - 250),  # models count badly
        }
        urls = [data_url(image.resize(shown, Image.Resampling.BICUBIC)) for image in pair]
        parts = self.template.parts(values)
        words = [part if isinstance(part, str) else part.name for part in parts]
        key = sha256("\0".join([self.model, edit.id, *urls, *words]).encode()).hexdigest()[:32]
        return Question(
            key,
            place,
            edit.id,
            lambda: content_of(parts, dict(zip(("source", "target"), urls, strict=True))),
            lambda answer: read_chain(answer, shown, boxes).scaled(shown, size),
        )


def estimate_boxes(
    edit: Edit, pair: tuple[Image.Image, Image.Image] | None, margin: int = 1
) -> tuple[Box, ...]:
    """Boxes around an edit, from the difference of its pixels, in pixels of the prepared image.

    Args:
        pair: the images as they came, for boxes that are tight; else the changed cells, which were
            found from the pixels when the edit was prepared, are boxed.
        margin: cells by which those were grown.
    """
    if pair is None:
        return changed_boxes(edit.changed, dilated=margin)
    import numpy as np

    height, width = edit.source_codes.shape
    before, after = (
        np.asarray(image.convert("RGB").resize((width * 8, height * 8), Image.Resampling.BICUBIC), np.int16)
        for image in pair
    )
    differs = (np.abs(before - after) > _UNCHANGED).any(axis=2)
    return changed_boxes(edit.changed, differs, dilated=margin)


def _facts(edit: Edit, boxes: Sequence[Box], points: Sequence[Point]) -> str:
    lines = []
    if points:
        named = ", ".join(f"[{x:.0f}, {y:.0f}]" for x, y in points)
        lines.append(f"Keypoints of the edit [x, y]: {named}")
    if boxes:
        lines.append(f"The images differ in: {', '.join(map(format_box, boxes))}")
    if edit.source_caption and edit.target_caption:
        lines.append(f"Captions: before, {edit.source_caption!r}; after, {edit.target_caption!r}")
    return "\n".join(lines)


def _write(
    folder: Path, number: int, edits: Sequence[Edit], outcomes: Mapping[int, Outcome[str]], split: str
) -> dict[str, Any] | None:
    """A shard of those with a chain; None where one of its questions has no answer yet."""
    if any(not outcome.answered for outcome in outcomes.values()):
        return None
    kept, refused = [], []
    for place, edit in enumerate(edits):
        outcome = outcomes[place] if edit.has_target else Outcome(None, "it has no target image")
        if outcome.value is None:
            refused.append({"id": edit.id, "reason": outcome.problem})
        else:
            kept.append(replace(edit, reasoning=outcome.value))
    part = {"edits": len(kept), "rejected": len(refused)}
    drop_card(folder)
    attached = {PART: json.dumps(part), REJECTED: json_lines(refused)}
    # The shard may be there already, shorter, from a run with a limit.
    write_shard(folder, number, kept, split=split, attached=attached, replacing=True)
    return part


def _check_share(totals: Totals, folder: Path, settings: ReasoningSettings, *, sure: int = _SURE) -> None:
    looked = totals.looked
    if looked >= sure and totals.rejected > settings.max_rejected * looked:
        _gather_rejected(folder)
        raise DataError(
            f"{totals.rejected} of {looked} chains were rejected (limit {settings.max_rejected:.0%}); the "
            f"reasons are in {folder / REJECTED}, the answers in {folder / ANSWERS}. Another model or other "
            "--prompts may do better, in another folder; or raise --max-rejected and start again"
        )


def _gather_rejected(folder: Path) -> None:
    """One list of what the shards' own lists name."""
    lists = sorted(folder.glob(f"shard-*/{REJECTED}"))
    write_text(folder / REJECTED, "".join(path.read_text(encoding="utf-8") for path in lists))


def _facts_of(prepared: Path) -> dict[str, Any]:
    """Facts about the source from the prepared set's card; none without a card."""
    try:
        before = read_card(prepared)
    except DataError:
        return {}
    return {name: before[name] for name in ("source", "rows", "holdout") if name in before}
