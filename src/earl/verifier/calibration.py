"""How far the scene verifier can be trusted: scores of edits known to be good and known to be bad.

`calibrate` makes true targets and every kind of mistake (`damage`) for random tasks, judges
them, and tabulates per family. The same with `through`, a pass of the pictures through something
lossy such as a vision tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.records import Attempt, Verdict
from earl.verifier.damage import MAKERS
from earl.verifier.scene import SceneVerifier
from earl.world import render
from earl.world.edits import FAMILIES
from earl.world.tasks import WorldTask, sample_task

Pixels = NDArray[np.uint8]
Pass = Callable[[list[Image.Image]], list[Image.Image]]

GOOD, BAD = 9.0, 3.0  # overall scores that a good edit must reach and a bad one must not exceed
TRUE = "target"


@dataclass(frozen=True, slots=True)
class Case:
    """One judged edit: what kind it is ("target" for the true one), its family, its verdict."""

    kind: str
    family: str
    verdict: Verdict

    @property
    def overall(self) -> float:
        """0-10; an edit without scores counts 0."""
        return self.verdict.overall or 0.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The judged edits, and what they say of the verifier."""

    cases: tuple[Case, ...]

    def rate(
        self, kind: str, family: str | None = None, *, threshold: float | None = None
    ) -> tuple[int, float]:
        """How many edits of a kind there are, and which share (0-1) is on the right side of the threshold."""
        chosen = [c.overall for c in self.cases if c.kind == kind and family in (None, c.family)]
        if not chosen:
            return 0, float("nan")
        if kind == TRUE:
            return len(chosen), float(np.mean([o >= (threshold or GOOD) for o in chosen]))
        return len(chosen), float(np.mean([o <= (threshold or BAD) for o in chosen]))

    def roc_auc(self) -> float:
        """Chance that a good edit scores above a bad one (ties count half)."""
        good = np.array([c.overall for c in self.cases if c.kind == TRUE])
        bad = np.array([c.overall for c in self.cases if c.kind != TRUE])
        above = (good[:, None] > bad[None]).mean()
        return float(above + 0.5 * (good[:, None] == bad[None]).mean())

    def table(self) -> str:
        """A Markdown table: a row a family, a column a kind of edit; share on the right side, mean."""
        kinds = [TRUE, *MAKERS]
        families = [f for f in FAMILIES if any(c.family == f for c in self.cases)]
        lines = ["| family | " + " | ".join(kinds) + " |", "|" + " --- |" * (len(kinds) + 1)]
        for family in [*families, None]:
            cells = []
            for kind in kinds:
                n, share = self.rate(kind, family)
                mean = np.mean(
                    [c.overall for c in self.cases if c.kind == kind and family in (None, c.family)] or [0]
                )
                cells.append(f"{share:.1%} ({mean:.2f}, n={n})" if n else "-")
            lines.append(f"| {family or 'all'} | " + " | ".join(cells) + " |")
        return "\n".join(lines)


def calibrate(
    n: int,
    seed: int,
    through: Pass | None = None,
    *,
    side: int = 64,
    families: Sequence[str] | None = None,
    source_through: bool = False,
    show: bool = True,
) -> Calibration:
    """Judge n tasks' true targets and one of each possible mistake.

    Args:
        n: tasks.
        seed: of the tasks and of the mistakes.
        through: applied to the pictures before judging, e.g. a vision tokenizer's round trip.
        side: pixels.
        families: edit families; all when None.
        source_through: whether the source goes through it as well.
        show: print the table.
    """
    rng = np.random.default_rng([seed, 77])
    verifier = SceneVerifier()
    cases: list[Case] = []
    for index in range(n):
        task = sample_task(seed * 1_000_003 + index, "test", families)
        kinds, pictures = _pictures(task, rng, side)
        images = [Image.fromarray(p) for p in pictures]
        if through is not None:
            images = through(images) if source_through else [images[0], *through(images[1:])]
        attempts = [Attempt(images[0], task.instruction, edited) for edited in images[1:]]
        for kind, verdict in zip(kinds, verifier.judge_now(attempts), strict=True):
            cases.append(Case(kind, task.family, verdict))
    result = Calibration(tuple(cases))
    if show:
        print(result.table())
        print(f"\nROC-AUC of good against bad: {result.roc_auc():.4f}")
    return result


def _pictures(task: WorldTask, rng: np.random.Generator, side: int) -> tuple[list[str], list[Pixels]]:
    """The source picture, then the true target and the mistakes; names for all but the first."""
    kinds, pictures = [TRUE], [render(task.source, side), render(task.target, side)]
    for kind, make in MAKERS.items():
        made = make(task, rng, side)
        if made is not None:
            kinds.append(kind)
            pictures.append(made)
    return kinds, pictures
