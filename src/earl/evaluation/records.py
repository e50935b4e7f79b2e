"""Records of an evaluation: one edit, the means of a set of edits, and the results of a whole run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from earl.errors import DataError
from earl.records import Estimate, FinishReason, VerdictStatus

EditState = Literal["edited", "no_image", "missing", "refused", "unreadable"]
"""An image; the editor made none; none was given; the editor cannot take the task; it cannot be read."""

FORMAT = 2


@dataclass(frozen=True, slots=True)
class CandidateRecord:
    """One of several images drawn for a task, and the score by which one was chosen."""

    seed: int | None
    status: VerdictStatus
    overall: float | None


@dataclass(frozen=True, slots=True)
class EditRecord:
    """One task's edit, a line of edits.jsonl.

    Attributes:
        key, id, number, instruction, family, group, kind: the task's.
        problem: why there is no image, or no target; "" if nothing is wrong.
        source, edited, target, mask: files in the evaluation's folder; None where there is none.
        caption: what the edited image is to show, where the benchmark measures it.
        details: texts of the benchmark's row that its own questions need, by column.
        size: (width, height) in px of the images.
        seed: that the image was drawn with.
        seconds: the editor's share of time.
        candidates: where several were drawn, with the place of the `chosen` one.
    """

    key: str
    id: str
    number: int
    instruction: str
    family: str
    group: str
    kind: str
    state: EditState
    problem: str = ""
    source: str | None = None
    edited: str | None = None
    target: str | None = None
    size: tuple[int, int] | None = None
    seed: int | None = None
    finish_reason: FinishReason = "stop"
    seconds: float = 0.0
    candidates: tuple[CandidateRecord, ...] = ()
    chosen: int = 0
    mask: str | None = None
    caption: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Summary:
    """Means of a set of edits.

    Attributes:
        n: edits.
        judged: of them, those in the means.
        no_image: of the judged, completions without an image; they count as 0.
        left_out: the others, by reason (`scores.REASONS`).
        scores: by name (`earl.records.SCORES`, 0-10; "exact", 0-1); None where nothing was judged.
        outcomes: what the verifier says that the edits did, with how many; {} if it does not say.
        other: mean overall score under the other rule for failures; None where that is of the same scores.
    """

    n: int
    judged: int
    no_image: int
    left_out: Mapping[str, int]
    scores: Mapping[str, Estimate | None]
    outcomes: Mapping[str, int] = field(default_factory=dict)
    other: float | None = None

    @property
    def overall(self) -> Estimate | None:
        return self.scores["overall"]


@dataclass(frozen=True, slots=True)
class Results:
    """All numbers of an evaluation.

    Attributes:
        benchmark, editor, verifier: what fixed the run (evaluation.json); verifier None before it is judged.
        complete: whether all tasks have their edit.
        all: every edit; then by group, kind and family.
        unknown_families: those that the benchmark's declaration does not know.
        metrics: distances to the target by name.
        not_measured: metrics that were asked for, with the reason why there are none.
        networks: those that measured, by metric.
        seconds: of making all edits.
        versions: of the libraries.
    """

    benchmark: Mapping[str, Any]
    editor: Mapping[str, Any]
    verifier: Mapping[str, Any] | None
    complete: bool
    all: Summary
    groups: Mapping[str, Summary]
    kinds: Mapping[str, Summary]
    families: Mapping[str, Summary]
    unknown_families: tuple[str, ...] = ()
    metrics: Mapping[str, Estimate] = field(default_factory=dict)
    not_measured: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def score_names(self) -> tuple[str, ...]:
        return tuple(self.all.scores)


_EDIT, _RESULTS = TypeAdapter(EditRecord), TypeAdapter(Results)


def edit_from_json(record: Mapping[str, Any]) -> EditRecord:
    """A line of edits.jsonl. Raises ValueError."""
    return _EDIT.validate_python(record)


def edit_to_json(edit: EditRecord) -> dict[str, Any]:
    """The line of an edit; what has its default is left out."""
    values = asdict(edit)
    return {
        each.name: values[each.name] for each in fields(edit) if values[each.name] not in (each.default, {})
    }


def to_json(record: Any) -> Any:
    """Any of an evaluation's records as plain JSON types, numbers with four decimals."""
    if hasattr(record, "__dataclass_fields__"):
        record = asdict(record)
    if isinstance(record, Mapping):
        return {name: to_json(value) for name, value in record.items()}
    if isinstance(record, list | tuple):
        return [to_json(value) for value in record]
    return round(record, 4) if isinstance(record, float) else record


def results_from_json(content: Any, name: str) -> Results:
    """Results as `to_json` wrote them. Raises DataError; `name` says where they stood."""
    try:
        results = _RESULTS.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{name} does not hold results: {where}: {first['msg']}; evaluate again") from error
    if results.format > FORMAT:
        raise DataError(f"{name} is of format {results.format}; upgrade earl to read it")
    return results
