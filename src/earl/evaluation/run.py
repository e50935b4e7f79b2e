"""An evaluation from its plan to its tables: `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from earl.evaluation.benchmark import Benchmark
from earl.evaluation.editors import Editor
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.results import write_results
from earl.evaluation.stages import judge_edits, make_edits
from earl.verifiers.protocol import Verifier

Stage = Literal["edits", "verdicts", "tables"]
Watch = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class Judging:
    """Who judges. `identity` is what fixes its verdicts, as JSON: kind, model, questions."""

    verifier: Verifier
    identity: Mapping[str, Any]
    window: int = 32
    ask_again: bool = False


@dataclass(frozen=True)
class Extras:
    """What is not in every evaluation: see `make_edits` and `metrics.measure`."""

    chooser: Judging | None = None
    learned: tuple[str, ...] = ()
    clip_model: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


def evaluate(
    out: str | Path,
    benchmark: Benchmark,
    editor: Editor,
    judging: Judging | None,
    *,
    until: Stage = "tables",
    batch: int = 16,
    extras: Extras | None = None,
    on_progress: Watch | None = None,
) -> dict[str, Any] | None:
    """Run the stages that are not done, up to `until`.

    Args:
        out: folder; a run with the same plan that was cut off goes on.
        judging: None where `until` is "edits".
        on_progress: called with (stage, done, in all or None).

    Returns:
        `results.write_results`; None where it stops before the tables.

    Raises:
        ConfigError: the folder holds another evaluation.
        DataError, VerifierError, OutputError: what was made is kept.
    """
    extras = extras or Extras()
    assert judging is not None or until == "edits", "verdicts need a verifier"
    editor_plan = editor.describe()
    if extras.chooser is not None:
        editor_plan["chosen_by"] = dict(extras.chooser.identity)
    plan = {
        "benchmark": benchmark.describe(),
        "editor": editor_plan,
        "verifier": dict(judging.identity) if judging else None,
    }
    folder = EvaluationFolder.start(out, plan)
    with folder.locked():
        folder = EvaluationFolder(out)  # as it is now that nobody else writes
        make_edits(
            folder,
            benchmark,
            editor,
            batch=batch,
            chooser=extras.chooser.verifier if extras.chooser else None,
            on_progress=_named(on_progress, "edits"),
        )
        if until == "edits" or judging is None:
            return None
        judge_edits(
            folder,
            judging.verifier,
            window=judging.window,
            ask_again=judging.ask_again,
            on_progress=_named(on_progress, "verdicts"),
        )
        if until == "verdicts":
            return None
        return write_results(
            folder, learned=extras.learned, clip_model=extras.clip_model, versions=extras.versions
        )


def states(folder: EvaluationFolder) -> Mapping[str, int]:
    """How many tasks ended in which state."""
    found: dict[str, int] = {}
    for edit in folder.edits:
        found[edit["state"]] = found.get(edit["state"], 0) + 1
    return found


def _named(watch: Watch | None, stage: str) -> Callable[[int, int | None], None] | None:
    return (lambda done, total: watch(stage, done, total)) if watch else None


__all__: Sequence[str] = ("Extras", "Judging", "Stage", "evaluate", "states")
