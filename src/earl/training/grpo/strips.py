"""Strips of small images for a run's page, in PNG, with their verdicts in JSON.

`strips/00000020.json` lists some of step 20's groups, each with a strip: source, the group's edits,
target. `strips/heldout-00000020.json` does the same for prompts that are never trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from earl.files import new_file, write_json
from earl.records import SCORE_PARTS, Attempt, Verdict
from earl.training.grpo.batches import Group

GREY = (128, 128, 128)
SIDE = 128  # px, the longer side of an image


@dataclass(frozen=True, slots=True)
class Shown:
    """A group with its images; `second` has another verifier's verdicts, in the order of the rollouts."""

    group: Group
    attempts: Sequence[Attempt]
    second: Sequence[Verdict | None] = ()


class StripWriter:
    """Writes the strips of a run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "strips"

    def write(self, step: int, shown: Sequence[Shown], *, prefix: str = "") -> None:
        """Write a step's strips, then the JSON that names them, so that what it names is there.

        Raises:
            OutputError: the disk is full or not writable.
        """
        stem = f"{prefix}{step:08d}"
        groups = []
        for index, one in enumerate(shown):
            image = strip(one.attempts)
            name = f"{stem}-{index}.png"
            with new_file(self.folder / name) as fresh:
                image.save(fresh, format="PNG", optimize=True)
            columns = len(one.attempts) + 2
            size = [image.width // columns, image.height]
            groups.append(_described(one) | {"strip": name, "columns": columns, "size": size})
        write_json(self.folder / f"{stem}.json", {"step": step, "groups": groups}, indent=None)


def strip(attempts: Sequence[Attempt]) -> Image.Image:
    """Source, edits and target side by side, one size, at most `SIDE` px; grey where there is no image."""
    first = attempts[0]
    scale = min(1.0, SIDE / max(first.source.size))
    size = (max(1, round(first.source.width * scale)), max(1, round(first.source.height * scale)))
    images = [first.source, *(attempt.edited for attempt in attempts), first.target]
    row = Image.new("RGB", (len(images) * size[0], size[1]), GREY)
    for column, image in enumerate(images):
        if image is not None:
            row.paste(image.convert("RGB").resize(size, Image.Resampling.LANCZOS), (column * size[0], 0))
    return row


def sheet(attempts: Sequence[Attempt]) -> Image.Image:
    """The strips of single attempts below each other."""
    rows = [strip([attempt]) for attempt in attempts]
    table = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), GREY)
    top = 0
    for row in rows:
        table.paste(row, (0, top))
        top += row.height
    return table


def _described(shown: Shown) -> dict[str, Any]:
    group = shown.group
    second = list(shown.second) or [None] * len(group.rollouts)
    return {
        "key": group.key,
        "instruction": group.instruction,
        "family": group.family,
        "kind": group.kind,
        "rollouts": [
            {"reward": rollout.reward, **_scores(rollout.verdict)}
            | ({"second": other.overall} if other is not None else {})
            for rollout, other in zip(group.rollouts, second, strict=True)
        ],
    }


def _scores(verdict: Verdict) -> dict[str, Any]:
    scores: dict[str, Any] = {part: getattr(verdict, part) for part in SCORE_PARTS} if verdict.ok else {}
    if verdict.ok and verdict.members:
        scores["parts"] = {name: member.overall for name, member in verdict.members.items()}
    why = verdict.why if verdict.ok else verdict.reason
    return {"status": verdict.status, "overall": verdict.overall, **scores, "why": why[:300]}
