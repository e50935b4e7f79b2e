"""How far the scene verifier can be trusted: scores of edits known to be good and known to be bad.

`calibrate` makes true targets and every kind of mistake (`damage`) for tasks of all families in
turn, and judges them: as they are, and after a pass of the edited images through something
lossy such as a vision tokenizer. The source is judged as it was given, as in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.errors import ConfigError, DataError
from earl.records import Attempt, Verdict
from earl.world import FAMILIES, WorldTask, render, sample_task
from earl.world.verifier.damage import MAKERS
from earl.world.verifier.scene import SceneVerifier

Pixels = NDArray[np.uint8]
Pass = Callable[[list[Image.Image]], list[Image.Image]]

GOOD, BAD = 9.0, 3.0  # overall scores that a good edit must reach and a bad one must not exceed
NEAR = 2.0  # points by which a pass may move a true target
TRUE = "target"
WASHED_OUT = "noise"  # a tokenizer takes the grain away: what comes out is no mistake any more
_TOGETHER = 8  # tasks whose images go through the pass in one call


@dataclass(frozen=True, slots=True)
class Case:
    """One edit: what kind it is ("target" for the true one), and what the verifier says of it.

    `after` is the verdict after the pass, None where there was none.
    """

    task: str
    kind: str
    family: str
    verdict: Verdict
    after: Verdict | None = None

    def score(self, *, after: bool = False) -> float:
        """Overall, 0-10; an edit without scores counts 0."""
        verdict = self.after if after else self.verdict
        assert verdict is not None, "there was no pass"
        return verdict.overall or 0.0

    def right(self, *, after: bool = False) -> bool:
        """Whether the score is on the side of the threshold where it should be."""
        score = self.score(after=after)
        return score >= GOOD if self.kind == TRUE else score <= BAD

    @property
    def near(self) -> bool:
        """Whether the pass moved the score by no more than `NEAR` points."""
        return abs(self.score(after=True) - self.score()) <= NEAR


@dataclass(frozen=True, slots=True)
class Calibration:
    """The judged edits, and what they say of the verifier. `passed`: whether there was a pass."""

    cases: tuple[Case, ...]
    passed: bool = False

    def rate(self, kind: str, family: str | None = None, *, after: bool = False) -> tuple[int, float]:
        """How many edits of a kind there are, and which share (0-1) is on the right side."""
        chosen = [c for c in self.cases if c.kind == kind and family in (None, c.family)]
        return len(chosen), _mean(c.right(after=after) for c in chosen)

    def bad(self, families: Sequence[str] | None = None, *, after: bool = False) -> tuple[int, float]:
        """The same over all mistakes; after a pass without the kind that it takes away (`WASHED_OUT`)."""
        left_out = (TRUE, WASHED_OUT) if after else (TRUE,)
        chosen = [c for c in self.cases if c.kind not in left_out and (not families or c.family in families)]
        return len(chosen), _mean(c.right(after=after) for c in chosen)

    def roc_auc(self, *, after: bool = False) -> float:
        """Chance that a good edit scores above a bad one (ties count half); kinds as in `bad`."""
        left_out = (TRUE, WASHED_OUT) if after else (TRUE,)
        good = np.array([c.score(after=after) for c in self.cases if c.kind == TRUE])
        bad = np.array([c.score(after=after) for c in self.cases if c.kind not in left_out])
        above = (good[:, None] > bad[None]).mean()
        return float(above + 0.5 * (good[:, None] == bad[None]).mean())

    def misses(self) -> list[dict[str, Any]]:
        """Edits on the wrong side of a threshold, before or after the pass."""
        found = []
        for case in self.cases:
            for after in (False, True) if self.passed else (False,):
                if case.right(after=after) or (after and case.kind == WASHED_OUT):
                    continue
                verdict = case.after if after else case.verdict
                assert verdict is not None
                found.append(
                    {
                        "task": case.task,
                        "family": case.family,
                        "kind": case.kind,
                        "after": after,
                        "overall": round(case.score(after=after), 3),
                        "status": verdict.status,
                        "outcome": verdict.outcome,
                        "why": verdict.why,
                        "notes": dict(verdict.notes),
                    }
                )
        return found

    def report(self) -> dict[str, Any]:
        """All shares as plain JSON types.

        Returns:
            {"thresholds", "families": {name: {"group", "tasks", "raw", "after"}}, "simple", "complex",
            "all" (the same without a group), "kinds": {kind: {"n", "raw", "after"}}, "misses"}; "after"
            only where there was a pass. Each "raw" of families holds "target" and "bad" (shares on the
            right side, 0-1), each "after" "near" (share of targets that moved by no more than 2) too.
        """
        groups: dict[str, list[str]] = {"simple": [], "complex": []}
        for family in self._families():
            groups[FAMILIES[family]].append(family)
        return {
            "thresholds": {"target_at_least": GOOD, "bad_at_most": BAD, "near_within": NEAR},
            "families": {n: {"group": FAMILIES[n], **self._shares([n])} for n in self._families()},
            **{group: self._shares(names) for group, names in groups.items() if names},
            "all": self._shares(self._families())
            | {"auc": round(self.roc_auc(), 4)}
            | ({"auc_after": round(self.roc_auc(after=True), 4)} if self.passed else {}),
            "kinds": {kind: self._kind(kind) for kind in (TRUE, *MAKERS) if self.rate(kind)[0]},
            "misses": self.misses(),
        }

    def _families(self) -> list[str]:
        return [f for f in FAMILIES if any(c.family == f for c in self.cases)]

    def _shares(self, families: Sequence[str]) -> dict[str, Any]:
        targets = [c for c in self.cases if c.kind == TRUE and c.family in families]
        shares: dict[str, Any] = {"tasks": len(targets)}
        for name, after in (("raw", False), ("after", True))[: 1 + self.passed]:
            count, bad = self.bad(families, after=after)
            shares[name] = {
                "target": round(_mean(c.right(after=after) for c in targets), 4),
                "bad": round(bad, 4),
                "bad_n": count,
            }
        if self.passed:
            shares["after"]["near"] = round(_mean(c.near for c in targets), 4)
        return shares

    def _kind(self, kind: str) -> dict[str, Any]:
        chosen = [c for c in self.cases if c.kind == kind]
        told: dict[str, Any] = {"n": len(chosen)}
        for name, after in (("raw", False), ("after", True))[: 1 + self.passed]:
            told[name] = {
                "right": round(_mean(c.right(after=after) for c in chosen), 4),
                "overall": round(_mean(c.score(after=after) for c in chosen), 3),
            }
        return told


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return float(np.mean(listed)) if listed else float("nan")


def format_report(report: dict[str, Any]) -> str:
    """A report as two Markdown tables, by family and by kind of edit, and the ROC-AUC."""
    passed = "after" in report["all"]
    heads = ["family", "group", "tasks", f"targets ≥ {GOOD:g}", f"bad ≤ {BAD:g}"]
    heads += [f"after: targets ≥ {GOOD:g}", f"moved ≤ {NEAR:g}", f"bad ≤ {BAD:g}"] if passed else []
    rows = [(name, shares["group"], shares) for name, shares in report["families"].items()]
    rows += [(f"**all {name}**", name, report[name]) for name in ("simple", "complex") if name in report]
    rows.append(("**all**", "", report["all"]))
    lines = _table(heads, [[name, group, *_cells(shares, passed)] for name, group, shares in rows])
    heads = ["kind of edit", "n", "right side", "mean overall"]
    heads += ["after: right side", "mean overall"] if passed else []
    kinds = []
    for name, told in report["kinds"].items():
        sides = [told["raw"], *([told["after"]] if passed else [])]
        cells = [cell for side in sides for cell in (_percent(side["right"]), f"{side['overall']:.2f}")]
        kinds.append([name, str(told["n"]), *cells])
    lines += ["", *_table(heads, kinds), "", f"ROC-AUC of good against bad: {report['all']['auc']:.4f}"]
    if passed:
        lines[-1] += (
            f", after the pass {report['all']['auc_after']:.4f} ('{WASHED_OUT}' left out: its grain is gone)"
        )
    return "\n".join(lines)


def _cells(shares: dict[str, Any], passed: bool) -> list[str]:
    cells = [str(shares["tasks"]), _percent(shares["raw"]["target"]), _percent(shares["raw"]["bad"])]
    if passed:
        cells += [_percent(shares["after"][name]) for name in ("target", "near", "bad")]
    return cells


def _percent(share: float) -> str:
    return "-" if share != share else f"{100 * share:.1f}%"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def calibrate(
    n: int,
    seed: int,
    through: Pass | None = None,
    *,
    side: int = 64,
    families: Sequence[str] | None = None,
    on_tasks: Callable[[int], None] | None = None,
) -> Calibration:
    """Judge n tasks' true targets and one of each possible mistake.

    Args:
        n: tasks of the test split, the families in turn; at least 1.
        seed: of the tasks and of the mistakes, non-negative.
        through: what the edited images are passed through for a second judgement, e.g. a vision
            tokenizer's encoder and decoder; they come back in the same size.
        side: pixels.
        families: edit families; all when None.
        on_tasks: called with the number of tasks done.

    Raises:
        ConfigError: n below 1, or a negative seed.
        DataError: an unknown family.
    """
    if n < 1 or seed < 0:
        raise ConfigError(f"n = {n} and seed = {seed}: at least 1 task, and a seed from 0, are needed")
    names = list(families or FAMILIES)
    if unknown := [name for name in names if name not in FAMILIES]:
        raise DataError(f"unknown edit family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    verifier = SceneVerifier()
    cases: list[Case] = []
    for start in range(0, n, _TOGETHER):
        tasks = [_draw(seed, index, names) for index in range(start, min(start + _TOGETHER, n))]
        made = [
            _images(task, np.random.default_rng([seed, 77, start + i]), side) for i, task in enumerate(tasks)
        ]
        passed: list[list[Image.Image]] = [[] for _ in made]
        if through is not None:
            flat = iter(through([picture for pictures in made for picture in pictures.values()]))
            passed = [[next(flat) for _ in pictures] for pictures in made]
        for i, (task, pictures) in enumerate(zip(tasks, made, strict=True)):
            source = Image.fromarray(render(task.source, side))
            verdicts = _judge(verifier, source, task, pictures.values())
            afters: list[Verdict | None] = [*_judge(verifier, source, task, passed[i])] or [None] * len(
                verdicts
            )
            cases += [
                Case(task.id, kind, task.family, verdict, after)
                for kind, verdict, after in zip(pictures, verdicts, afters, strict=True)
            ]
            if on_tasks:
                on_tasks(start + i + 1)
    return Calibration(tuple(cases), through is not None)


def _draw(seed: int, index: int, families: Sequence[str]) -> WorldTask:
    return sample_task(seed * 1_000_003 + index, "test", [families[index % len(families)]])


def _judge(
    verifier: SceneVerifier, source: Image.Image, task: WorldTask, pictures: Iterable[Image.Image]
) -> list[Verdict]:
    return verifier.judge_now([Attempt(source, task.instruction, picture) for picture in pictures])


def _images(task: WorldTask, rng: np.random.Generator, side: int) -> dict[str, Image.Image]:
    """By kind: the true target, and the mistakes that this task allows."""
    pictures = {TRUE: Image.fromarray(render(task.target, side))}
    for kind, make in MAKERS.items():
        made = make(task, rng, side)
        if made is not None:
            pictures[kind] = Image.fromarray(made)
    return pictures
