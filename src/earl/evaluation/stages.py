"""Stages 1 and 2 of an evaluation: edits and verdicts. Each goes on where it was cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from earl.errors import ConfigError, EarlError, VerifierError
from earl.evaluation.benchmark import Benchmark, Task
from earl.evaluation.editors import Edited, Editor
from earl.evaluation.folder import JUDGED, EvaluationFolder
from earl.evaluation.records import CandidateRecord, EditRecord, EditState
from earl.pipeline import best_index
from earl.records import Attempt, Verdict
from earl.sequence.instruction import check_instruction
from earl.verifiers.protocol import Verifier, judge_each
from earl.vision.images import open_image, resize_to, target_size

OnProgress = Callable[[int, "int | None"], None]
SILENT = 8
"""Verdicts "unreachable" in a row after which the verifier counts as gone, and judging stops."""

WHITE = (256, 256)
"""px, the white image that the release has judged where there is none."""


def make_edits(
    folder: EvaluationFolder,
    benchmark: Benchmark,
    editor: Editor,
    *,
    batch: int = 16,
    chooser: Verifier | None = None,
    on_progress: OnProgress | None = None,
) -> None:
    """Stage 1: an image for every task.

    Args:
        batch: edits made together. A group that was cut off is made again as a whole, and what was
            missing of it is kept: rounding depends on what is computed together, so a resumed run
            equals an uninterrupted one.
        chooser: picks the best of several candidates.
        on_progress: called with (tasks done, tasks in all or None).

    Raises:
        ConfigError: several candidates and nobody to choose, or two tasks of one key.
        VerifierError: the chooser cannot be reached; run again to go on.
        DataError, OutputError: the data cannot be read, the folder not written.
    """
    if folder.complete:
        return
    tasks, seen = benchmark.tasks(), set[str]()
    while group := list(islice(tasks, batch)):
        for task in group:
            if task.key in seen:
                raise ConfigError(f"the benchmark {benchmark.name} has two tasks of the key {task.key!r}")
            seen.add(task.key)
        _edit(folder, editor, group, chooser)
        if on_progress:
            on_progress(len(folder.edits), None)
    if not len(folder.edits):
        raise ConfigError(
            f"the benchmark {benchmark.name} has no tasks; check its files, split and mapping, and that the "
            "share that is held out is not too small for so few edits"
        )
    folder.finish_edits()


def judge_edits(
    folder: EvaluationFolder,
    verifier: Verifier,
    *,
    window: int = 32,
    ask_again: bool = False,
    on_progress: OnProgress | None = None,
) -> None:
    """Stage 2: a verdict for every edit, written as it comes.

    Edits whose verdict in an earlier run is "unreachable" are judged again.

    Args:
        window: edits at the verifier at once.
        ask_again: ask again too where the verifier's answer could not be used.

    Raises:
        VerifierError: the verifier stopped answering; what was judged is kept.
    """
    stale = ("unreachable", "unusable") if ask_again else ("unreachable",)
    folder.verdicts.drop([key for key, verdict in folder.verdicts.items() if verdict.status in stale])
    states = JUDGED[folder.failures]
    waiting = [edit for edit in folder.edits if edit.state in states and edit.key not in folder.verdicts]
    total = len(folder.verdicts) + len(waiting)

    def keep(attempt: Attempt, verdict: Verdict) -> None:
        folder.verdicts.append({attempt.key: verdict})
        if on_progress:
            on_progress(len(folder.verdicts), total)

    judge_all(verifier, (_attempt(folder, edit) for edit in waiting), keep, window=window, kept=folder.path)


def judge_all(
    verifier: Verifier,
    attempts: Iterable[Attempt],
    keep: Callable[[Attempt, Verdict], None],
    *,
    window: int,
    kept: Path,
) -> None:
    """Ask for a verdict on each attempt, several at once.

    Args:
        attempts: made as they are wanted.
        keep: called with each verdict as it comes.
        window: attempts at the verifier at once.
        kept: where the verdicts are, for the error.

    Raises:
        VerifierError: `SILENT` verdicts in a row are "unreachable".
    """
    waiting = iter(attempts)
    silent = 0

    async def work() -> None:
        nonlocal silent
        for attempt in waiting:
            verdict = (await judge_each(verifier, [attempt]))[0]
            keep(attempt, verdict)
            silent = silent + 1 if verdict.status == "unreachable" else 0
            if silent >= SILENT:
                raise VerifierError(
                    f"the verifier stopped answering ({verdict.reason}); its verdicts so far are in {kept}, "
                    "run the same command again to go on"
                )

    async def work_together() -> None:
        workers = [asyncio.create_task(work()) for _ in range(window)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    asyncio.run(work_together())


def _attempt(folder: EvaluationFolder, edit: EditRecord) -> Attempt:
    source = folder.image(edit.source)
    assert source is not None, "an edit worth asking about has a source"
    edited, target = folder.image(edit.edited), folder.image(edit.target)
    if edited is None and folder.failures == "as-released":
        edited = Image.new("RGB", WHITE, "white")
    finish = edit.finish_reason
    return Attempt(source, edit.instruction, edited, target, finish, edit.key, edit.family, edit.details)


def _edit(folder: EvaluationFolder, editor: Editor, group: Sequence[Task], chooser: Verifier | None) -> None:
    if all(task.key in folder.edits for task in group):
        return
    ready: list[tuple[Task, Image.Image]] = []
    records: list[EditRecord] = []
    for task in group:
        try:
            ready.append((task, _opened(task)))
        except EarlError as error:
            if task.key not in folder.edits:
                records.append(_record(task, "unreadable", problem=str(error)))
    made = editor.edit(ready) if ready else []
    assert len(made) == len(ready), "an editor gives a result for each task"
    wanted = [edited for edited in made if edited.task.key not in folder.edits]
    several = [edited for edited in wanted if len(edited.candidates) > 1]
    if several and chooser is None:
        raise ConfigError("several candidates were drawn for a task, and no verifier was named to choose")
    scored = _score(several, chooser) if several and chooser is not None else {}
    records += [_saved(folder, edited, scored.get(edited.task.key, [])) for edited in wanted]
    folder.add_edits(records)


def _opened(task: Task) -> Image.Image:
    """A task's source. Raises EarlError: something in the task keeps it from being edited."""
    if task.problem or task.source is None:
        raise ConfigError(task.problem or "it has no source image")
    check_instruction(task.instruction)
    image = open_image(task.source)
    target_size(*image.size, 64 * 64)  # refuses images that are too long for their width
    return image


def _score(edits: Sequence[Edited], chooser: Verifier) -> dict[str, list[Verdict]]:
    """Verdicts on candidates. Raises VerifierError: one is "unreachable"; choosing would be unfair."""
    attempts = [
        Attempt(
            e.source,
            e.task.instruction,
            c.image,
            _target(e),
            c.finish_reason,
            f"{e.task.key}-{i}",
            e.task.family,
            e.task.details,
        )
        for e in edits
        for i, c in enumerate(e.candidates)
    ]
    verdicts = asyncio.run(judge_each(chooser, attempts))
    lost = [verdict for verdict in verdicts if verdict.status == "unreachable"]
    if lost:
        raise VerifierError(
            f"the verifier that picks the best of several did not answer for {len(lost)} of {len(attempts)} "
            f"candidates ({lost[0].reason}); run the same command again to go on"
        )
    answers = iter(verdicts)
    return {e.task.key: [next(answers) for _ in e.candidates] for e in edits}


def _saved(folder: EvaluationFolder, edited: Edited, verdicts: Sequence[Verdict]) -> EditRecord:
    """Write an edit's images; its record."""
    task = edited.task
    images = [candidate.image for candidate in edited.candidates]
    place = best_index(images, verdicts) if verdicts else 0
    chosen = edited.candidates[place]
    problem = chosen.problem
    mask = target = None
    try:
        target, mask = _target(edited), _mask(edited)
    except EarlError as error:
        problem = problem or f"its target or mask cannot be read: {error}"
    return _record(
        task,
        chosen.state,
        problem=problem,
        source=folder.save_image("sources", task.key, edited.source),
        edited=folder.save_image("edits", task.key, chosen.image) if chosen.image else None,
        target=folder.save_image("targets", task.key, target) if target else None,
        mask=folder.save_image("masks", task.key, mask) if mask else None,
        caption=task.caption,
        details=task.details,
        size=edited.source.size,
        seed=chosen.seed,
        finish_reason=chosen.finish_reason,
        seconds=round(edited.seconds, 4),
        candidates=tuple(
            CandidateRecord(candidate.seed, verdict.status, verdict.overall)
            for candidate, verdict in zip(edited.candidates, verdicts, strict=bool(verdicts))
        ),
        chosen=place,
    )


def _target(edited: Edited) -> Image.Image | None:
    if edited.task.target is None:
        return None
    return resize_to(open_image(edited.task.target), edited.source.size)


def _mask(edited: Edited) -> Image.Image | None:
    if edited.task.mask is None:
        return None
    return open_image(edited.task.mask).resize(edited.source.size, Image.Resampling.NEAREST)


def _record(task: Task, state: EditState, **more: Any) -> EditRecord:
    names = ("key", "id", "number", "instruction", "family", "group", "kind")
    return EditRecord(**{name: getattr(task, name) for name in names}, state=state, **more)
