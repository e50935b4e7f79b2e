"""Kept samples of a run as rows of images: held-out prompts through time, and training groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from earl.pages.rendering import file_url
from earl.pages.run_record import Line, SampleStep
from earl.pages.smoothing import thinned
from earl.records import SCORE_PARTS

COLUMNS = 9  # of held-out edits through time
STEPS = 8  # of training groups
GROUPS = 4  # of one step


@dataclass(frozen=True)
class Shot:
    """One image of a strip of `columns` images, shown by moving the strip behind a window.

    Attributes:
        position: of the strip, in percent.
        strip: its data URL where it is another than the row's own.
        score: below the image; `label`: after that, faint; `why`: shown under the pointer.
    """

    position: float
    columns: int
    strip: str = ""
    score: str = ""
    label: str = ""
    why: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """The images of one prompt. `strip` is a data URL, `shape` a CSS aspect ratio; None is an empty cell."""

    instruction: str
    family: str
    strip: str
    shape: str
    shots: Sequence[Shot | None]


@dataclass(frozen=True)
class HeldOut:
    """The same held-out prompts at several steps, a row each."""

    head: Sequence[str]
    rows: Sequence[Row]


def heldout_rows(steps: Sequence[SampleStep]) -> HeldOut:
    """Source, the edit at each of at most nine steps, target."""
    chosen = [step for step in thinned(steps, COLUMNS) if step.groups]
    head = ["source", *(f"step {step.step:,}" for step in chosen), "target"]
    rows = []
    for index, group in enumerate(chosen[-1].groups if chosen else ()):
        shots: list[Shot | None] = [Shot(0.0, 3)]
        for step in chosen:
            other = step.groups[index] if index < len(step.groups) else None
            if other is None or other["key"] != group["key"]:
                shots.append(None)
                continue
            rollout = other["rollouts"][0]
            overall, second = rollout.get("overall"), rollout.get("second")
            score = str(rollout["status"]) if overall is None else f"{overall:.1f}"
            label = "" if second is None else f"{second:.1f}"
            strip = "" if other is group else file_url(step.folder / other["strip"])
            shots.append(Shot(50.0, 3, strip, score, label, _why(rollout)))
        rows.append(_row(chosen[-1], group, [*shots, Shot(100.0, 3)]))
    return HeldOut(head, rows)


def group_rows(steps: Sequence[SampleStep]) -> list[tuple[int, list[Row]]]:
    """(step, its groups) at several steps: source, the group's edits with their rewards, target."""
    chosen = [step for step in thinned(steps, STEPS) if step.groups]
    return [(step.step, [_group(step, group) for group in step.groups[:GROUPS]]) for step in chosen]


def _group(step: SampleStep, group: Line) -> Row:
    count = int(group["columns"])
    rewards = [rollout.get("reward") for rollout in group["rollouts"]]
    known = [reward for reward in rewards if reward is not None]
    best = max(known) if len(set(known)) > 1 else None
    shots = [Shot(0.0, count, label="source")]
    for column, (rollout, reward) in enumerate(zip(group["rollouts"], rewards, strict=True), 1):
        score = str(rollout["status"]) if reward is None else f"{reward:.1f}"
        is_best = reward is not None and reward == best
        position = 100 * column / (count - 1)
        shots.append(Shot(position, count, score=score, why=_why(rollout), best=is_best))
    return _row(step, group, [*shots, Shot(100.0, count, label="target")])


def _row(step: SampleStep, group: Line, shots: Sequence[Shot | None]) -> Row:
    width, height = group.get("size", (1, 1))
    words = str(group["instruction"]), str(group["family"])
    return Row(*words, file_url(step.folder / group["strip"]), f"{int(width)}/{int(height)}", shots)


def _why(rollout: Line) -> str:
    """The parts of a verdict and the verifier's reason."""
    parts = [f"{name.replace('_', ' ')} {rollout[name]:.1f}" for name in SCORE_PARTS if name in rollout]
    parts += [f"{name}: {value:.1f}" for name, value in rollout.get("parts", {}).items()]
    return "; ".join([*parts, str(rollout.get("why", ""))]).strip("; ")
