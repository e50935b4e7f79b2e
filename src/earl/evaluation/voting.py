"""Blind votes on two evaluations of the same tasks: which pairs are shown, how votes are kept, what they say.

A vote is a line of JSON: the task, the voter, the images of A and B, and the choice. Where one image is
preferred the line is also a pair as `earl prepare` takes it (source, instruction, preferred, other). Paths
are relative to the file. The two images say of which comparison a vote is; a file may hold several.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from earl.errors import DataError
from earl.evaluation.compare import names_apart, sign_test
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.intervals import estimate
from earl.files import check_writable, read_lines
from earl.records import Estimate
from earl.store import RecordFile

Choice = Literal["A", "B", "tie"]
WORTH: dict[str, float] = {"A": 1.0, "tie": 0.5, "B": 0.0}
SWAPPED: dict[Choice, Choice] = {"A": "B", "tie": "tie", "B": "A"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two edits of one task."""

    key: str
    instruction: str
    source: Path
    a: Path
    b: Path

    @property
    def images(self) -> tuple[Path, Path]:
        """Of A and of B, by which a pair is told from another of the same task."""
        return self.a.resolve(), self.b.resolve()


@dataclass(frozen=True, slots=True)
class Vote:
    """One line of a file of votes, with the paths made whole."""

    pair: Pair
    voter: str
    choice: Choice

    def swapped(self) -> Vote:
        """The same vote with the sides A and B exchanged."""
        pair = replace(self.pair, a=self.pair.b, b=self.pair.a)
        return Vote(pair, self.voter, SWAPPED[self.choice])


class Ballot:
    """The pairs that one voter sees, in an order and with sides of the voter's own, and the votes so far.

    Args:
        first, second: folders of evaluations, A and B.
        file: of the votes; what the voter has voted on is not asked again. Votes on other runs stay in it.
        count: pairs at most; None shows all.

    Raises:
        DataError: no evaluations, no task with an image in both, or a damaged file of votes.
        OutputError: the file cannot be written.
    """

    def __init__(
        self, first: Path, second: Path, file: Path, *, voter: str, seed: int = 0, count: int | None = None
    ) -> None:
        check_writable(file)
        runs = EvaluationFolder(first), EvaluationFolder(second)
        self.names = names_apart(*runs)
        self.file, self.voter = file, voter
        self._votes = RecordFile[dict[str, Any]](file)
        self.pairs = _pairs(*runs)
        if not self.pairs:
            raise DataError(f"{first} and {second} have no task with an image in both; edit the same tasks")
        self._images = {pair.images for pair in self.pairs}
        self._answered = {vote.pair.images for vote in self.votes() if vote.voter == voter}
        rng = random.Random(f"{seed} {voter}")
        rng.shuffle(self.pairs)
        self.pairs = self.pairs[:count]
        self._a_is_left = [rng.random() < 0.5 for _ in self.pairs]

    def next(self) -> int | None:
        """The number of the first pair without this voter's vote; None when all have one."""
        numbers = range(len(self.pairs))
        return next((n for n in numbers if self.pairs[n].images not in self._answered), None)

    def votes(self) -> list[Vote]:
        """All voters' votes of the file on these two runs, A and B as here. Raises DataError."""
        both = [(vote, vote.swapped()) for vote in _read(self.file)] if self.file.exists() else []
        found = [next((vote for vote in ways if vote.pair.images in self._images), None) for ways in both]
        return [vote for vote in found if vote is not None]

    def sides(self, number: int) -> tuple[Path, Path]:
        """The images on the left and on the right."""
        pair = self.pairs[number]
        return (pair.a, pair.b) if self._a_is_left[number] else (pair.b, pair.a)

    def vote(self, number: int, side: Literal["left", "right", "tie"]) -> None:
        """Record a vote; a second one on the same pair changes nothing. Raises OutputError."""
        pair = self.pairs[number]
        if pair.images in self._answered:
            return
        choice: Choice = (
            "tie" if side == "tie" else "A" if (side == "left") == self._a_is_left[number] else "B"
        )
        paths = {"before": pair.source, "a": pair.a, "b": pair.b}
        folder = self.file.parent.resolve()
        beside = {name: os.path.relpath(path.resolve(), folder) for name, path in paths.items()}
        record = {"task_key": pair.key, "voter": self.voter, "choice": choice}
        record |= {**beside, "asked": pair.instruction, "left": "A" if self._a_is_left[number] else "B"}
        if choice != "tie":
            better, worse = ("a", "b") if choice == "A" else ("b", "a")
            record |= {"source": beside["before"], "instruction": pair.instruction}
            record |= {"preferred": beside[better], "other": beside[worse]}
        self._votes.append({f"{self.voter}: {pair.key}: {beside['a']}, {beside['b']}": record})
        self._answered.add(pair.images)


def read_votes(path: Path) -> list[Vote]:
    """The votes of a file. Raises DataError: a line that is none, or no line."""
    votes = _read(path)
    if not votes:
        raise DataError(f"{path} holds no votes yet")
    return votes


def _read(path: Path) -> list[Vote]:
    votes = []
    for number, line in read_lines(path):
        names = ("task_key", "voter", "choice", "asked", "before", "a", "b")
        whole = isinstance(line, dict) and all(isinstance(line.get(name), str) for name in names)
        if not whole or line["choice"] not in WORTH:
            raise DataError(f"{path}:{number} is no vote; votes are made by `earl evaluate vote`")
        files = [path.parent / line[name] for name in ("before", "a", "b")]
        votes.append(Vote(Pair(line["task_key"], line["asked"], *files), line["voter"], line["choice"]))
    return votes


@dataclass(frozen=True, slots=True)
class Tally:
    """Result of the votes.

    Attributes:
        a, tie, b: tasks that most votes give to A, to neither, to B.
        share: of votes for A, ties half, 0-1; with its interval over tasks.
        p: two-sided, that A and B win equally often (sign test over tasks).
        agreement: share of pairs of voters of one task who chose the same; None with one voter.
    """

    votes: int
    voters: int
    a: int
    tie: int
    b: int
    share: Estimate
    p: float
    agreement: Estimate | None


def count_votes(votes: Sequence[Vote]) -> Tally:
    """Tasks won, and how far voters agree; a task counts once, whatever number of votes it has."""
    choices: dict[str, list[str]] = defaultdict(list)
    for vote in votes:
        choices[vote.pair.key].append(vote.choice)
    means = [sum(WORTH[choice] for choice in task) / len(task) for task in choices.values()]
    same = [
        sum(x == y for x, y in combinations(task, 2)) / (len(task) * (len(task) - 1) / 2)
        for task in choices.values()
        if len(task) > 1
    ]
    share = estimate(means)
    assert share is not None, "there are votes"
    wins, losses = sum(mean > 0.5 for mean in means), sum(mean < 0.5 for mean in means)
    return Tally(
        len(votes),
        len({vote.voter for vote in votes}),
        wins,
        len(means) - wins - losses,
        losses,
        share,
        sign_test(wins, losses),
        estimate(same) if same else None,
    )


def tally_text(tally: Tally, names: tuple[str, str]) -> str:
    """The tally for the terminal, with the names of both editors, which voters do not see."""
    lines = [
        f"A: {names[0]}",
        f"B: {names[1]}",
        f"{tally.votes} votes of {tally.voters} voter{'s' * (tally.voters != 1)} on {tally.share.count} "
        f"tasks: A wins {tally.a}, ties {tally.tie}, B wins {tally.b}",
        f"share of votes for A, ties half: {tally.share.text()} (95% interval over tasks; "
        f"sign test p = {tally.p:.3g})",
    ]
    if tally.agreement is not None:
        lines.append(f"two voters chose the same in {tally.agreement.text()} of the cases where both voted")
    return "\n".join(lines)


def _pairs(a: EvaluationFolder, b: EvaluationFolder) -> list[Pair]:
    others = dict(b.edits.items())
    found = []
    for key, edit in a.edits.items():
        other = others.get(key)
        if other is None or not (edit.source and edit.edited and other.edited):
            continue
        if edit.instruction != other.instruction:
            raise DataError(f"task {key} has another instruction in {b.path}; the runs are of different data")
        found.append(
            Pair(key, edit.instruction, a.path / edit.source, a.path / edit.edited, b.path / other.edited)
        )
    return found
