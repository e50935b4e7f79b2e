"""Images of a run, kept small, for its report: strips in PNG and what was said of them in JSON.

`samples/00000020.json` lists some of step 20's groups, each with a strip: source, the group's
edits, target. `samples/heldout-00000020.json` does the same for prompts that are never trained on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from earl.errors import CheckpointError
from earl.records import SCORE_PARTS, Attempt, Verdict
from earl.training.grpo.batches import Group

GREY = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class Shown:
    """A group with its images; `second` has another verifier's verdicts, in the order of the rollouts."""

    group: Group
    attempts: Sequence[Attempt]
    second: Sequence[Verdict | None] = ()


class SampleBook:
    """Writes the samples of a run.

    Args:
        folder: of the run.
        side: px, the longer side of an image at most.
    """

    def __init__(self, folder: str | Path, side: int) -> None:
        self.folder, self.side = Path(folder) / "samples", side

    def write(self, step: int, shown: Sequence[Shown], *, prefix: str = "") -> None:
        """Write a step's strips, then the JSON that names them, so that what it names is there.

        Raises:
            CheckpointError: the disk is full or not writable.
        """
        stem = f"{prefix}{step:08d}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            groups = []
            for index, one in enumerate(shown):
                picture = strip(one.attempts, self.side)
                name = f"{stem}-{index}.png"
                picture.save(self.folder / f".{name}", format="PNG", optimize=True)
                os.replace(self.folder / f".{name}", self.folder / name)
                columns = len(one.attempts) + 2
                size = [picture.width // columns, picture.height]
                groups.append(_described(one) | {"strip": name, "columns": columns, "size": size})
            partial = self.folder / f".{stem}.json"
            partial.write_text(json.dumps({"step": step, "groups": groups}), encoding="utf-8")
            os.replace(partial, self.folder / f"{stem}.json")
        except OSError as error:
            raise CheckpointError(f"samples in {self.folder} could not be written: {error}") from error


def strip(attempts: Sequence[Attempt], side: int) -> Image.Image:
    """Source, edits and target side by side, one size; grey where there is no picture."""
    first = attempts[0]
    scale = min(1.0, side / max(first.source.size))
    size = (max(1, round(first.source.width * scale)), max(1, round(first.source.height * scale)))
    pictures = [first.source, *(attempt.edited for attempt in attempts), first.target]
    row = Image.new("RGB", (len(pictures) * size[0], size[1]), GREY)
    for column, picture in enumerate(pictures):
        if picture is not None:
            row.paste(picture.convert("RGB").resize(size, Image.Resampling.LANCZOS), (column * size[0], 0))
    return row


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
