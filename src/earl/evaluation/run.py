"""An evaluation from its plan to its tables: `evaluate`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from earl.config import EvaluationSettings, JudgeSettings, VerifierSettings
from earl.errors import ConfigError
from earl.evaluation.benchmark import Benchmark
from earl.evaluation.editors import Editor, ModelEditor
from earl.evaluation.folder import PLACES, EvaluationFolder
from earl.evaluation.records import Results
from earl.evaluation.results import write_results
from earl.evaluation.selfjudging import warning
from earl.evaluation.stages import judge_edits, make_edits
from earl.evaluation.tables import score_table, title
from earl.files import clear_partial
from earl.progress import Progress, one_line
from earl.store import only_one
from earl.verifiers.factory import make_verifier
from earl.verifiers.judge import JudgeVerifier
from earl.verifiers.protocol import Verifier

LOCAL_WINDOW = 4  # edits at once at a verifier in this process
WAYS = ("text_first", "jpeg", "swap", "structured", "expected", "seed", "extra")
"""Ways of asking a judge that decide its scores; identities name those that are not the protocol's own."""
ADDRESSES = {"url", "key_env", "concurrency", "timeout", "deadline", "retries"}
Watch = Callable[[str, int, "int | None"], None]


@dataclass(frozen=True)
class Judging:
    """The verifier of an evaluation, and how many edits it gets at once.

    Attributes:
        identity: what fixes the verdicts, as JSON: kind, model, questions.
        window: edits at the verifier at once.
    """

    verifier: Verifier
    identity: Mapping[str, Any]
    window: int = 32

    @classmethod
    def of_settings(cls, settings: VerifierSettings) -> Judging:
        """The verifier that settings describe.

        A judge is asked for its model's name, so that a mistake is found before any work.

        Raises:
            ConfigError: settings that do not fit.
            VerifierError: the judge cannot be reached.
        """
        verifier = make_verifier(settings)
        if settings.judge is None or not isinstance(verifier, JudgeVerifier):
            return cls(verifier, {"kind": settings.kind, "model": None} | _own(settings), LOCAL_WINDOW)
        identity: dict[str, Any] = {
            "kind": settings.kind,
            "model": asyncio.run(verifier.check()),
            "questions": verifier.prompts.hash,
            "samples": settings.judge.samples,
            "temperature": settings.judge.temperature,
        }
        if settings.judge.protocol != "earl":
            identity["protocol"] = settings.judge.protocol
        usual = JudgeSettings(**settings.judge.model_dump(include={"url", "protocol", "prompts"}))
        ways = {name: (getattr(settings.judge, name), getattr(usual, name)) for name in WAYS}
        identity |= {name: given for name, (given, unset) in ways.items() if given != unset}
        return cls(verifier, identity, settings.judge.concurrency)


def _own(settings: VerifierSettings) -> dict[str, Any]:
    """What a verifier of another kind was given; of a sum all of its parts, wherever their judges are."""
    given = settings.model_dump(
        mode="json",
        include={"options", "parts"},
        exclude={"parts": {"__all__": {"judge": ADDRESSES}}},
        exclude_defaults=True,
    )
    return {name: value for name, value in given.items() if value}


def evaluate(
    out: str | Path | None,
    benchmark: Benchmark,
    editor: Editor,
    judging: Judging | None,
    settings: EvaluationSettings | None = None,
    *,
    chooser: Judging | None = None,
    on_progress: Watch | None = None,
) -> Results | None:
    """Run the stages that are not done, up to `settings.until`.

    Args:
        out: folder; a run with the same plan that was cut off goes on. None: a temporary one.
        judging: None where the last stage is "edits", or where the benchmark's figures are metrics.
        settings: stages, metrics, batch.
        chooser: picks the best of several candidates.
        on_progress: called with (stage, done, in all or None).

    Returns:
        What `results.write_results` wrote; None where the run stops before the tables.

    Raises:
        ConfigError: the folder holds another evaluation.
        DataError, VerifierError, OutputError: what was made is kept.
    """
    settings = settings or EvaluationSettings()
    editor_plan = editor.describe()
    if chooser is not None:
        editor_plan["chosen_by"] = dict(chooser.identity)
    verifier_plan = dict(judging.identity) if judging else None
    if verifier_plan is not None and settings.failures != "exclude":
        verifier_plan["failures"] = settings.failures
    plan = {"benchmark": benchmark.describe(), "editor": editor_plan, "verifier": verifier_plan}
    with ExitStack() as stack:
        place = out if out is not None else stack.enter_context(TemporaryDirectory(prefix="earl-evaluation-"))
        path = EvaluationFolder.start(place, plan)
        stack.enter_context(only_one(path))
        clear_partial(path, "", *PLACES)
        folder = EvaluationFolder(path, durable=out is not None)
        make_edits(
            folder,
            benchmark,
            editor,
            batch=settings.batch,
            chooser=chooser.verifier if chooser else None,
            on_progress=_named(on_progress, "edits"),
        )
        if settings.until == "edits":
            return None
        if judging is not None:
            judge_edits(
                folder,
                judging.verifier,
                window=judging.window,
                ask_again=settings.ask_again,
                on_progress=_named(on_progress, "verdicts"),
            )
        return write_results(folder, settings) if settings.until == "tables" else None


def run_evaluation(
    out: str | Path | None,
    benchmark: Benchmark,
    editor: Editor,
    settings: EvaluationSettings,
    verifier: VerifierSettings | None,
    best_by: VerifierSettings | None = None,
    show: Progress | None = None,
) -> Results | None:
    """`evaluate` as settings say, with warnings and progress on `show`.

    Args:
        verifier: None where nobody judges.
        best_by: picks the best of several images.

    Raises:
        ConfigError: best of several without a verifier that picks, or the other way round.
        Others: see `evaluate`.
    """
    show = show or Progress()
    if (settings.best_of > 1) != (best_by is not None):
        raise ConfigError(
            f"--best-of {settings.best_of} draws so many images and --best-by names the verifier that picks "
            "one: give both, or neither"
        )
    if best_by is not None and not isinstance(editor, ModelEditor):
        raise ConfigError("--best-of draws with a model; images given with --predictions are one a task")
    chooser = Judging.of_settings(best_by) if best_by else None
    judging = Judging.of_settings(verifier) if verifier and settings.until != "edits" else None
    if judging is not None:
        folder = editor.folder if isinstance(editor, ModelEditor) else None
        if folder is not None and (said := warning(folder, judging.identity)):
            show.line(f"earl: warning: {said}")
        if chooser is not None and chooser.identity == judging.identity:
            show.line("earl: warning: the verifier that picks the best also judges it: a best case")
    return evaluate(out, benchmark, editor, judging, settings, chooser=chooser, on_progress=show)


def closing_lines(results: Results | None, out: str | Path | None, settings: EvaluationSettings) -> str:
    """The lines to print at the end."""
    if results is None:
        return f"{settings.until} are in {out}; the same command without --until goes on"
    lines = [one_line(title(results)), score_table(results).text(), f"editing took {results.seconds:.1f} s"]
    if out is not None:
        lines.append(f"tables are in {out}; `earl report {out}` shows the images")
    return "\n".join(lines)


def _named(watch: Watch | None, stage: str) -> Callable[[int, int | None], None] | None:
    return (lambda done, total: watch(stage, done, total)) if watch else None
