"""The frozen records that cross room boundaries.

What crosses a boundary is one of these types, never a dict of whatever. Images are
`PIL.Image.Image` in mode RGB; image codes are integer numpy arrays of shape (H, W) with
values in [0, codebook size).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from earl.errors import RewardError

if TYPE_CHECKING:
    from PIL.Image import Image

FinishReason = Literal["stop", "length"]
VerdictStatus = Literal["ok", "undecodable", "unfinished", "unreachable", "unusable"]

SizeRule: TypeAlias = Literal["snap", "release"]
"""How a model resizes images; kept in its `earl.json`.

"snap": sides are multiples of 8, so that every pixel belongs to a cell. "release": as EARL's released
models were trained, an area alone; the encoder drops what is left over of a cell at the right and bottom.
"""
SIZE_RULES: tuple[SizeRule, ...] = get_args(SizeRule)

EditGroup = Literal["simple", "complex"]
Part = Literal["policy", "tokenizer", "vision"]
PARTS: tuple[Part, ...] = get_args(Part)
"""The parts of a model."""
Bits = Literal["int8", "int4"]
"""What a policy's matrices may be quantised to."""

ScorePart = Literal["edit_success", "over_editing", "naturalness", "artifacts"]
SCORE_PARTS: tuple[ScorePart, ...] = get_args(ScorePart)
"""The four scores that a verifier gives, 0-10; 10 is best in all of them."""

OUTCOMES = ("exact", "untouched", "elsewhere", "also elsewhere", "wrong", "wrong, also elsewhere")
"""What an edit did to its source: what was asked; nothing; something else instead; something else too;
at the right place something else than was asked; that, and something else too."""

FIND, FOUND = "find ", "object"
"""How a question begins that names things, and the word of its answer in each latent cell where they are."""

ScoreName = Literal["overall", "semantic_consistency", "perceptual_quality", ScorePart]
SCORES: tuple[str, ...] = get_args(ScoreName)
"""The four scores and the three that follow from them (`Verdict`), each 0-10."""


_ROUNDING = 1e-6  # by which a score may lie outside of 0-10


@dataclass(frozen=True, slots=True)
class Grid:
    """The latent grid of an image: rows and columns of image codes (pixels = 8 x each)."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a grid needs at least 1 row and 1 column, got {self.height}*{self.width}")

    def __str__(self) -> str:
        return f"{self.height}*{self.width}"


Point: TypeAlias = tuple[float, float]
"""A place in pixels of one image: from the left, from the top."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of one image, left/top inclusive, right/bottom exclusive."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Completion:
    """What the policy wrote after a prompt.

    `logprobs` are natural logs under the grammar at the sampling temperature, one per id,
    0.0 where the grammar forced the id (probability 1).
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One edit handed to a verifier. `edited` is None where the completion gave no image; `family` is the
    kind of edit, for judges with questions of each; `details` are texts of a benchmark's row that its own
    questions need, by column."""

    source: Image
    instruction: str
    edited: Image | None
    target: Image | None = None
    finish_reason: FinishReason = "stop"
    key: str = ""
    family: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's scores for one edit, each 0-10, or a status that says why there are none.

    SC = min(edit success, over-editing), PQ = min(naturalness, artifacts),
    overall = sqrt(SC * PQ) (VIEScore protocol). All are None unless the status is "ok".

    Attributes:
        mean_overall: the protocol's own overall score, where it has one: of several answers the mean of
            theirs, or a weighted mean of the parts. Overall is then this.
        outcome: the verifier's word for what the edit did ("exact", "untouched"); "" if it has none.
        exact: whether the edit is exactly what was asked; None if the verifier does not say.
        why: the reason for a failure, or what a verifier says about its scores.
        refused: the endpoint understood the question and will not answer it, now or later.
        raw: the judge's answers as it wrote them.
        members: of a weighted sum, the verdict of each of its verifiers by name.
        notes: for the log only; no result depends on them.

    Raises:
        RewardError: a score is no number from 0 to 10 (rounding apart).
    """

    status: VerdictStatus
    edit_success: float | None = None
    over_editing: float | None = None
    naturalness: float | None = None
    artifacts: float | None = None
    mean_overall: float | None = None
    outcome: str = ""
    exact: bool | None = None
    why: str = ""
    refused: bool = False
    raw: str = ""
    members: Mapping[str, Verdict] = field(default_factory=dict)
    notes: Mapping[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*SCORE_PARTS, "mean_overall"):
            value = getattr(self, name)
            if value is None or (isinstance(value, int | float) and 0 <= value <= 10):
                continue
            try:
                number = float(value)  # NumPy's and torch's are no numbers of JSON
            except (TypeError, ValueError):
                number = math.nan
            if not -_ROUNDING <= number <= 10 + _ROUNDING:
                raise RewardError(
                    f"a verdict's {name} is {value!r}; expected a number from 0 to 10, 10 is best"
                )
            object.__setattr__(self, name, min(10.0, max(0.0, number)))
        if self.exact is not None:
            object.__setattr__(self, "exact", bool(self.exact))
        plain = {n: note.item() if hasattr(note, "item") else note for n, note in self.notes.items()}
        object.__setattr__(self, "notes", plain)

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    @property
    def semantic_consistency(self) -> float | None:
        if self.edit_success is None or self.over_editing is None:
            return None
        return min(self.edit_success, self.over_editing)

    @property
    def perceptual_quality(self) -> float | None:
        if self.naturalness is None or self.artifacts is None:
            return None
        return min(self.naturalness, self.artifacts)

    @property
    def overall(self) -> float | None:
        sc, pq = self.semantic_consistency, self.perceptual_quality
        if sc is None or pq is None:
            return None
        return math.sqrt(sc * pq) if self.mean_overall is None else self.mean_overall

    @property
    def reason(self) -> str:
        """Why it is as it is, in one line: `why`, or the raw answer, or the status."""
        return " ".join((self.why or self.raw).split()) or self.status

    def score(self, name: str) -> float | None:
        """One of `SCORES`, or "exact" as 0 or 1."""
        value = getattr(self, name)
        return None if value is None else float(value)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Verdict:
        """The verdict that `to_json` wrote; other keys of the record are passed over."""
        known = {name.name: record[name.name] for name in fields(cls) if name.name in record}
        members = {name: cls.from_json(member) for name, member in known.get("members", {}).items()}
        return cls(**{**known, "members": members})


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and the interval that holds it with 95% confidence, in the unit of the values.

    `count` is the number of values that it is of.
    """

    mean: float
    low: float
    high: float
    count: int

    def text(self, digits: int = 2, *, interval: bool = True, signed: bool = False) -> str:
        """ "0.81 [0.77, 0.84]"; one value has no interval to show."""
        sign = "+" if signed else ""
        # + 0.0: a small negative number would be rounded to "-0.00"
        mean, low, high = (
            f"{round(x, digits) + 0.0:{sign}.{digits}f}" for x in (self.mean, self.low, self.high)
        )
        return f"{mean} [{low}, {high}]" if interval and self.count > 1 else mean
