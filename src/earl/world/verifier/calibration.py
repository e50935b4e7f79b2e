"""Calibration of the scene verifier: its scores of edits known to be good or bad.

`calibrate` makes true targets and every kind of mistake (`damage`) for tasks of all families in
turn, and judges them: as they are, and after a pass of the edited images through something
lossy such as a vision tokenizer. The source is judged as it was given, as in use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.errors import ConfigError
from earl.evaluation.correlation import correlate
from earl.records import Attempt, Verdict
from earl.tables import Cell, Column, Row, Table
from earl.world.families import FAMILIES
from earl.world.rendering import render
from earl.world.tasks import WorldTask, sample_task
from earl.world.verifier.damage import MAKERS
from earl.world.verifier.scene import SceneVerifier
from earl.world.verifier.weak_judge import WeakJudge

Pixels = NDArray[np.uint8]
Pass = Callable[[list[Image.Image]], list[Image.Image]]

GOOD, BAD = 9.0, 3.0  # overall scores that a good edit must reach and a bad one must not exceed
NEAR = 2.0  # points by which a pass may move a true target
TRUE = "target"
UNCHANGED = "no-op"
LIKELY = (UNCHANGED, "wrong count", "wrong colour", "wrong object", "extra damage", "blob")
"""Mistakes that policies make."""
WASHED_OUT = "noise"  # a tokenizer removes grain, so that after its pass this is no mistake any more
_TOGETHER = 8  # tasks whose images go through the pass in one call


@dataclass(frozen=True, slots=True)
class Case:
    """One edit: what kind it is ("target" for the true one), and what the verifier says of it.

    `after` is the verdict after the pass, None where there was none; `weak` has those of weak judges by name.
    """

    task: str
    kind: str
    family: str
    verdict: Verdict
    after: Verdict | None = None
    weak: Mapping[str, Verdict] = field(default_factory=dict)

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

    @property
    def targets(self) -> list[Case]:
        """The true targets."""
        return [case for case in self.cases if case.kind == TRUE]

    def mistakes(self, *, after: bool = False) -> list[Case]:
        """The wrong edits; `after` a tokenizer pass without `WASHED_OUT`, which the pass itself undoes."""
        left_out = (TRUE, WASHED_OUT) if after else (TRUE,)
        return [case for case in self.cases if case.kind not in left_out]

    def roc_auc(self, *, after: bool = False) -> float:
        """Chance that a good edit scores above a bad one (ties count half)."""
        good = np.array([case.score(after=after) for case in self.targets])
        bad = np.array([case.score(after=after) for case in self.mistakes(after=after)])
        return float((good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean())

    def misses(self) -> list[dict[str, Any]]:
        """Edits on the wrong side of a threshold, before or after the pass."""
        return [
            {
                "task": case.task,
                "family": case.family,
                "kind": case.kind,
                "after": after,
                "overall": round(case.score(after=after), 3),
                **{name: getattr(verdict, name) for name in ("status", "outcome", "why")},
                "notes": dict(verdict.notes),
            }
            for case in self.cases
            for after, verdict in ((False, case.verdict), (True, case.after))
            if verdict and not case.right(after=after) and not (after and case.kind == WASHED_OUT)
        ]

    def report(self) -> dict[str, Any]:
        """All shares as plain JSON types.

        Returns:
            {"thresholds", "families": {name: {"group", …}}, "simple", "complex", "all", "kinds": {kind: …},
            "misses"}. Of families: "tasks", and the shares (0-1) of "targets" and "bad" edits on the right
            side, after a pass "after_targets" and "after_bad" too, and "near", the share of targets that it
            moved by 2 points or less. Of kinds: "n", the share that is "right", the mean "overall".
        """
        names = [name for name in FAMILIES if any(case.family == name for case in self.cases)]
        groups = {group: [n for n in names if FAMILIES[n] == group] for group in ("simple", "complex")}
        auc = {"auc_after" if after else "auc": round(self.roc_auc(after=after), 4) for after in self._sides}
        return {
            "thresholds": {"target_at_least": GOOD, "bad_at_most": BAD, "near_within": NEAR},
            "families": {name: {"group": FAMILIES[name], **self._shares([name])} for name in names},
            **{group: self._shares(members) for group, members in groups.items() if members},
            "all": self._shares(names) | auc,
            "kinds": {kind: self._kind(kind) for kind in (TRUE, *MAKERS) if self._of(kind)},
            "misses": self.misses(),
        }

    @property
    def _sides(self) -> tuple[bool, ...]:
        return (False, True) if self.passed else (False,)

    def _of(self, kind: str) -> list[Case]:
        return [case for case in self.cases if case.kind == kind]

    def _shares(self, families: Sequence[str]) -> dict[str, Any]:
        targets = [case for case in self.targets if case.family in families]
        shares: dict[str, Any] = {"tasks": len(targets)}
        for after in self._sides:
            bad = [case for case in self.mistakes(after=after) if case.family in families]
            prefix = "after_" if after else ""
            shares[f"{prefix}targets"] = _mean(case.right(after=after) for case in targets)
            shares[f"{prefix}bad"] = _mean(case.right(after=after) for case in bad)
        return shares | ({"near": _mean(case.near for case in targets)} if self.passed else {})

    def _kind(self, kind: str) -> dict[str, Any]:
        cases = self._of(kind)
        told: dict[str, Any] = {"n": len(cases)}
        for after in self._sides:
            prefix = "after_" if after else ""
            told[f"{prefix}right"] = _mean(case.right(after=after) for case in cases)
            told[f"{prefix}overall"] = _mean(case.score(after=after) for case in cases)
        return told


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return round(float(np.mean(listed)), 4) if listed else float("nan")


def format_report(report: dict[str, Any]) -> str:
    """A report as two Markdown tables, by family and by kind of edit, and the ROC-AUC."""
    heads = {"tasks": "tasks", "targets": f"targets ≥ {GOOD:g}", "bad": f"bad ≤ {BAD:g}"}
    kinds = {"n": "n", "right": "right side", "overall": "mean overall"}
    note = f"ROC-AUC of good against bad: {report['all']['auc']:.4f}"
    if "auc_after" in report["all"]:
        heads |= {"after_targets": f"after: targets ≥ {GOOD:g}", "near": f"moved ≤ {NEAR:g}"}
        heads |= {"after_bad": f"after: bad ≤ {BAD:g}"}
        kinds |= {"after_right": "after: right side", "after_overall": "after: mean overall"}
        note += f", after {report['all']['auc_after']:.4f} ({WASHED_OUT!r} left out: its grain is gone)"
    totals = {f"all {name}": report[name] for name in ("simple", "complex") if name in report}
    families = report["families"] | totals | {"all": report["all"]}
    tables = _table("family", heads, families), _table("kind of edit", kinds, report["kinds"], note)
    return "\n".join(table.markdown() for table in tables)


def weak_table(cases: Sequence[Case]) -> Table:
    """Scores of weak judges beside the exact ones, for a simulated policy that is right half of the time: of
    each task the true target and one mistake that policies make, its kind in turn."""
    by_task: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.kind == TRUE or case.kind in LIKELY:
            by_task[case.task].append(case)
    mixed = []
    for place, members in enumerate(by_task.values()):
        mistakes = [case for case in members if case.kind != TRUE]
        mixed += [case for case in members if case.kind == TRUE] + mistakes[place % len(mistakes) :][:1]
    judged = {"truth": [case.verdict for case in mixed]}
    judged |= {name: [case.weak[name] for case in mixed] for name in mixed[0].weak}
    kinds, families = (np.array([getattr(case, name) for case in mixed]) for name in ("kind", "family"))
    rows = []
    for name, verdicts in judged.items():
        cells: list[Cell] = [name]
        for part in ("overall", "semantic_consistency"):
            said, true = ([v.score(part) or 0.0 for v in found] for found in (verdicts, judged["truth"]))
            cells.append(None if name == "truth" else correlate("spearman", said, true))
        scores = np.array([verdict.overall or 0.0 for verdict in verdicts])
        tied = (scores[:, None] == scores)[np.triu_indices(len(scores), 1)].mean()
        means = [scores[kinds == kind].mean() for kind in (TRUE, UNCHANGED) if (kinds == kind).any()]
        apart = np.std([scores[families == family].mean() for family in sorted(set(families))])
        rows.append(Row([*cells, *map(float, (tied, *means, apart))]))
    heads = ("Spearman overall", "Spearman SC", "tied pairs", "targets", "unchanged", "families apart")
    note = (
        f"{len(mixed)} edits, half of them right; targets, unchanged: mean overall score; families apart: "
        "standard deviation of the families' means"
    )
    return Table("", [Column("judge", left=True), *map(Column, heads)], rows, [note])


def _table(
    left: str, heads: Mapping[str, str], rows: Mapping[str, Mapping[str, float]], *notes: str
) -> Table:
    columns = [Column(left, left=True), *map(Column, heads.values())]
    return Table("", columns, [Row([n, *(_cell(k, r[k]) for k in heads)]) for n, r in rows.items()], notes)


def _cell(name: str, value: float) -> Cell:
    if name in ("n", "tasks"):
        return int(value)
    return None if value != value else f"{value:.2f}" if "overall" in name else f"{100 * value:.1f}%"


def calibrate(
    n: int,
    seed: int,
    through: Pass | None = None,
    *,
    side: int = 64,
    families: Sequence[str] | None = None,
    weak: Sequence[WeakJudge] = (),
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
        weak: judges whose scores of the same edits are kept beside the truth.
        on_tasks: called with the number of tasks done.

    Raises:
        ConfigError: n below 1, or a negative seed.
        DataError: an unknown family.
    """
    if n < 1 or seed < 0:
        raise ConfigError(f"n = {n} and seed = {seed}: at least 1 task, and a seed from 0, are needed")
    names = list(families or FAMILIES)
    verifier = SceneVerifier()
    cases: list[Case] = []
    for start in range(0, n, _TOGETHER):
        indices = range(start, min(start + _TOGETHER, n))
        tasks = [sample_task(seed * 1_000_003 + i, "test", [names[i % len(names)]]) for i in indices]
        rngs = [np.random.default_rng([seed, 77, index]) for index in indices]
        made = [_images(task, rng, side) for task, rng in zip(tasks, rngs, strict=True)]
        passed = iter(through([image for images in made for image in images.values()]) if through else ())
        for index, task, images in zip(indices, tasks, made, strict=True):
            source = Image.fromarray(render(task.source, side))
            attempts = [_attempt(source, task, image) for image in images.values()]
            verdicts = verifier.judge_now(attempts)
            after = verifier.judge_now([_attempt(source, task, i) for i in islice(passed, len(images))])
            for kind, attempt, verdict, again in zip_longest(images, attempts, verdicts, after):
                said = {judge.agreement: judge.weaken(attempt, verdict) for judge in weak}
                cases.append(Case(task.id, kind, task.family, verdict, again, said))
            if on_tasks:
                on_tasks(index + 1)
    return Calibration(tuple(cases), through is not None)


def _attempt(source: Image.Image, task: WorldTask, edited: Image.Image) -> Attempt:
    return Attempt(source, task.instruction, edited, family=task.family)


def _images(task: WorldTask, rng: np.random.Generator, side: int) -> dict[str, Image.Image]:
    """By kind: the true target, and the mistakes that this task allows."""
    images = {TRUE: Image.fromarray(render(task.target, side))}
    for kind, make in MAKERS.items():
        made = make(task, rng, side)
        if made is not None:
            images[kind] = Image.fromarray(made)
    return images
