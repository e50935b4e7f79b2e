"""The cells of the comparison: each a model of the paper's tables, and what it starts from."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from earl.errors import ConfigError
from earl.records import SCORE_PARTS

Edits = Literal["simple", "complex", "all"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One model, or one way of sampling from it.

    Attributes:
        kind: "given" is a model that exists, "best" the start with best-of-N sampling.
        start: the cell it comes from; None for a given model.
        edits: S, C or both, of what it is trained on.
        table: where it is shown.
        blind: the part of the score that its verifier cannot see.
    """

    name: str
    label: str
    kind: Literal["given", "sft", "grpo", "best"]
    start: str | None
    edits: Edits = "all"
    table: Literal["direct", "reasoning", "best", "weak"] = "direct"
    reasoning: bool = False
    scaled: bool = False
    noisy: bool = False
    blind: str | None = None


def _cells() -> dict[str, Cell]:
    cells = [
        Cell("start", "start of the matrix", "given", None),
        Cell("sft-s", "SFT S", "sft", "start", "simple"),
        Cell("sft-sc", "SFT S+C", "sft", "start"),
        Cell("sft-two-stage", "SFT S+C two-stage", "sft", "sft-s"),
        Cell("rl-s", "SFT S → RL S", "grpo", "sft-s", "simple"),
        Cell("rl-c", "SFT S → RL C", "grpo", "sft-s", "complex"),
        Cell("rl-sc", "SFT S → RL S+C", "grpo", "sft-s"),
        Cell("sft-sc-rl-sc", "SFT S+C → RL S+C", "grpo", "sft-sc"),
        Cell("rl-sc-scaled", "SFT S → RL S+C, scaled", "grpo", "sft-s", scaled=True),
        Cell("think-s", "SFT think S", "sft", "start", "simple", "reasoning", reasoning=True),
        Cell("think-s-rl-sc", "think S → RL S+C", "grpo", "think-s", "all", "reasoning", reasoning=True),
        Cell("sft-s-best", "SFT S, best of N", "best", "sft-s", table="best"),
        Cell("rl-sc-best", "SFT S → RL S+C, best of N", "best", "rl-sc", table="best"),
        Cell("rl-sc-noise", "RL S+C, noisy verifier", "grpo", "sft-s", table="weak", noisy=True),
    ]
    for part in SCORE_PARTS:
        label = f"RL S+C, verifier blind to {part.replace('_', ' ')}"
        name = f"rl-sc-blind-{part.replace('_', '-')}"
        cells.append(Cell(name, label, "grpo", "sft-s", table="weak", blind=part))
    return {cell.name: cell for cell in cells}


CELLS: Mapping[str, Cell] = _cells()
"""By name; a cell comes after what it starts from."""


def needed(names: Sequence[str] = (), given: Sequence[str] = ()) -> list[Cell]:
    """The cells of these names (all when empty) and what they start from, in order.

    Args:
        given: cells whose model exists already, so nothing is needed before them.

    Raises:
        ConfigError: no such cell (names the nearest).
    """
    for name in (*names, *given):
        if name not in CELLS:
            near = difflib.get_close_matches(name, CELLS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(CELLS)}"
            raise ConfigError(f"no cell {name!r}; {hint}")
    wanted: set[str] = set()
    for name in names or CELLS:
        at: str | None = name
        while at is not None:
            wanted.add(at)
            at = None if at in given else CELLS[at].start
    return [cell for cell in CELLS.values() if cell.name in wanted]
