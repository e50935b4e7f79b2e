"""The wall of samples: what the policy drew through time, with scores, as HTML with inline pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from earl.pages.reading import Line, SampleStep
from earl.records import SCORE_PARTS

COLUMNS = 9  # of held-out edits through time
STEPS = 8  # of training groups
GROUPS = 4  # of one step


def heldout_wall(steps: Sequence[SampleStep]) -> str:
    """The same held-out prompts at several steps, a row each: source, edits, target. "" for none."""
    chosen = [step for step in _spread(steps, COLUMNS) if step.groups]
    if not chosen:
        return ""
    head = ["source", *(f"step {step.step:,}" for step in chosen), "target"]
    rows = ["<tr><th></th>" + "".join(f"<th>{escape(name)}</th>" for name in head) + "</tr>"]
    for index, group in enumerate(chosen[-1].groups):
        cells = []
        for step in chosen:
            if index < len(step.groups) and step.groups[index]["key"] == group["key"]:
                other = step.groups[index]
                rollout = other["rollouts"][0]
                strip = "var(--s)" if other is group else f"url({inline(step.folder / other['strip'])})"
                cells.append(_cell(strip, 1, _scores(rollout), _why(rollout)))
            else:
                cells.append("<td></td>")
        last = inline(chosen[-1].folder / group["strip"])
        words = f"<th class=words>{_words(group)}</th>"
        row = f"{words}{_cell('var(--s)', 0)}{''.join(cells)}{_cell('var(--s)', 2)}"
        rows.append(f'<tr style="--s:url({last});{_aspect(group)}">{row}</tr>')
    return f"<div class=wide><table class=wall>{''.join(rows)}</table></div>"


def group_wall(steps: Sequence[SampleStep]) -> str:
    """Whole groups at several steps: source, the G edits with their rewards, target. "" for none."""
    parts = []
    for step in _spread(steps, STEPS):
        if not step.groups:
            continue
        parts.append(f"<h4>Step {step.step:,}</h4>")
        parts += [_group(step, group) for group in step.groups[:GROUPS]]
    return "".join(parts)


def _group(step: SampleStep, group: Line) -> str:
    count = int(group["columns"])
    rewards = [rollout.get("reward") for rollout in group["rollouts"]]
    known = [value for value in rewards if value is not None]
    best = max(known, default=None) if len(set(known)) > 1 else None
    labels = ["<i>source</i>"]
    for rollout in group["rollouts"]:
        reward = rollout.get("reward")
        text = escape(str(rollout["status"])) if reward is None else f"{reward:.1f}"
        mark = " class=best" if reward is not None and reward == best else ""
        labels.append(f'<b{mark} title="{escape(_why(rollout), quote=True)}">{text}</b>')
    labels.append("<i>target</i>")
    shots = "".join(
        f"<div>{_shot('var(--s)', column, count)}{label}</div>" for column, label in enumerate(labels)
    )
    picture = inline(step.folder / group["strip"])
    return (
        f"<figure class=group><figcaption>{_words(group)}</figcaption>"
        f'<div class=row style="--s:url({picture});{_aspect(group)}">{shots}</div></figure>'
    )


def _cell(strip: str, column: int, label: str = "", why: str = "") -> str:
    return f"<td>{_shot(strip, column, 3, why)}{label}</td>"


def _shot(strip: str, column: int, columns: int, why: str = "") -> str:
    """One image of a strip, by moving the strip under a window. `strip` is a CSS image."""
    at = 100 * column / (columns - 1)
    style = f"background:{strip} {at:.4f}% 0/{columns * 100}% 100%"
    return f'<div class=shot style="{style}" title="{escape(why, quote=True)}"></div>'


def _aspect(group: Line) -> str:
    """The shape of the group's images, for the style sheet."""
    width, height = group.get("size", (1, 1))
    return f"--a:{int(width)}/{int(height)}"


def _scores(rollout: Line) -> str:
    """The first verifier's overall score, and the second's where there is one."""
    if rollout.get("overall") is None:
        return f"<b>{escape(str(rollout['status']))}</b>"
    second = rollout.get("second")
    return f"<b>{rollout['overall']:.1f}</b>" + (f" <i>{second:.1f}</i>" if second is not None else "")


def _why(rollout: Line) -> str:
    parts = [f"{name.replace('_', ' ')} {rollout[name]:.1f}" for name in SCORE_PARTS if name in rollout]
    parts += [f"{name}: {value:.1f}" for name, value in rollout.get("parts", {}).items()]
    return "; ".join([*parts, str(rollout.get("why", ""))]).strip("; ")


def _words(group: Line) -> str:
    return f"{escape(str(group['instruction']))} <i>{escape(str(group['family']))}</i>"


def _spread(steps: Sequence[SampleStep], most: int) -> list[SampleStep]:
    """At most so many steps, evenly, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]


def inline(path: Path) -> str:
    """A PNG file as a data URL."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
