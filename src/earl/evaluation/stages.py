"""The stages of an evaluation. Each goes on where it was cut off, and does nothing where it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from PIL import Image

from earl.errors import ConfigError, EarlError, VerifierError
from earl.evaluation.benchmark import Benchmark, Task
from earl.evaluation.editors import Edited, Editor
from earl.evaluation.folder import EvaluationFolder
from earl.pipeline import best_index
from earl.records import Attempt, Verdict
from earl.sequence import check_instruction
from earl.verifiers.protocol import Verifier
from earl.vision import open_image, resize_to, target_size

Progress = Callable[[int, int | None], None]
SILENT = 8
"""Verdicts in a row that came from no one: then the verifier is gone, and judging stops."""

WORTH_ASKING = ("edited", "no_image")
"""States of an edit that get a verdict; the others are the harness's trouble, not the editor's."""


def make_edits(
    folder: EvaluationFolder,
    benchmark: Benchmark,
    editor: Editor,
    *,
    batch: int = 16,
    chooser: Verifier | None = None,
    on_progress: Progress | None = None,
) -> None:
    """Stage 1: an image for every task.

    Args:
        batch: edits made together. A group that was cut off is made again as a whole, and what was
            missing of it is kept: rounding depends on what is computed together, so a resumed run
            equals an uninterrupted one.
        chooser: picks the best of several candidates.
        on_progress: called with (tasks done, tasks in all or None).

    Raises:
        ConfigError: several candidates and nobody to choose.
        VerifierError: the chooser cannot be reached; run again to go on.
        DataError, OutputError: the data cannot be read, the folder not written.
    """
    if folder.complete:
        return
    tasks = benchmark.tasks()
    while group := list(islice(tasks, batch)):
        _edit(folder, editor, group, chooser)
        if on_progress:
            on_progress(len(folder.edits), None)
    if not len(folder.edits):
        raise ConfigError(f"the benchmark {benchmark.name} has no tasks; check its files, split and mapping")
    folder.finish_edits()


def judge_edits(
    folder: EvaluationFolder,
    verifier: Verifier,
    *,
    window: int = 32,
    ask_again: bool = False,
    on_progress: Progress | None = None,
) -> None:
    """Stage 2: a verdict for every edit, written as it comes.

    Verdicts of an earlier run that came from no one ("unreachable") are asked for again.

    Args:
        window: edits at the verifier at once.
        ask_again: ask again too where the verifier's answer could not be used.

    Raises:
        VerifierError: the verifier stopped answering; what was judged is kept.
    """
    stale = ("unreachable", "unusable") if ask_again else ("unreachable",)
    folder.verdicts.drop([record["key"] for record in folder.verdicts if record["status"] in stale])
    waiting = [
        edit for edit in folder.edits if edit["state"] in WORTH_ASKING and edit["key"] not in folder.verdicts
    ]
    if waiting:
        asyncio.run(_judge(folder, verifier, waiting, window, on_progress))


def attempt_of(folder: EvaluationFolder, edit: dict[str, Any]) -> Attempt:
    """An edit as a verifier takes it. Raises DataError: an image is gone."""
    source = folder.picture(edit["source"])
    assert source is not None
    return Attempt(
        source,
        edit["instruction"],
        folder.picture(edit["edited"]),
        folder.picture(edit["target"]),
        edit["finish_reason"],
        edit["key"],
    )


async def _judge(
    folder: EvaluationFolder,
    verifier: Verifier,
    waiting: Sequence[dict[str, Any]],
    window: int,
    on_progress: Progress | None,
) -> None:
    edits: Iterator[dict[str, Any]] = iter(waiting)
    total = len(folder.verdicts) + len(waiting)
    silent = 0

    async def work() -> None:
        nonlocal silent
        for edit in edits:
            verdict = await judged(verifier, attempt_of(folder, edit))
            folder.verdicts.append({"key": edit["key"], **verdict.to_json()})
            silent = silent + 1 if verdict.status == "unreachable" else 0
            if on_progress:
                on_progress(len(folder.verdicts), total)
            if silent >= SILENT:
                kept = len(folder.verdicts) - silent
                raise VerifierError(
                    f"the verifier stopped answering ({verdict.reason}); {kept} verdicts are in "
                    f"{folder.path}, run the same command again to go on"
                )

    workers = [asyncio.create_task(work()) for _ in range(min(window, len(waiting)))]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def judged(verifier: Verifier, attempt: Attempt) -> Verdict:
    """One verdict; a verifier that cannot be reached or refuses gives a status."""
    try:
        return (await verifier.judge([attempt]))[0]
    except VerifierError as error:
        return Verdict("unreachable", why=str(error))
    except EarlError as error:
        return Verdict("unusable", why=str(error))


async def judge_each(verifier: Verifier, attempts: Sequence[Attempt]) -> list[Verdict]:
    """Verdicts of all attempts, where one that the verifier refuses does not cost the others theirs."""
    try:
        return await verifier.judge(attempts)
    except EarlError as error:
        if len(attempts) == 1:
            return [Verdict("unusable", why=str(error))]
    return [verdict for attempt in attempts for verdict in await judge_each(verifier, [attempt])]


def _opened(task: Task) -> Image.Image:
    """A task's source. Raises EarlError: something in the task keeps it from being edited."""
    if task.problem or task.source is None:
        raise ConfigError(task.problem or "it has no source image")
    check_instruction(task.instruction)
    image = open_image(task.source)
    target_size(*image.size, 64 * 64)  # refuses images that are too long for their width
    return image


def _edit(folder: EvaluationFolder, editor: Editor, group: Sequence[Task], chooser: Verifier | None) -> None:
    if all(task.key in folder.edits for task in group):
        return
    ready: list[tuple[Task, Image.Image]] = []
    for task in group:
        try:
            ready.append((task, _opened(task)))
        except EarlError as error:
            if task.key not in folder.edits:
                folder.edits.append(_record(task, state="unreadable", problem=str(error)))
    made = editor.edit(ready) if ready else []
    assert len(made) == len(ready), "an editor gives a result for each task"
    wanted = [edited for edited in made if edited.task.key not in folder.edits]
    several = [edited for edited in wanted if len(edited.candidates) > 1]
    if several and chooser is None:
        raise ConfigError("several candidates were drawn for a task, and no verifier was named to choose")
    scored = _score(several, chooser) if several and chooser is not None else {}
    for edited in wanted:
        _save(folder, edited, scored.get(edited.task.key, []))


def _score(edits: Sequence[Edited], chooser: Verifier) -> dict[str, list[Verdict]]:
    """Verdicts on candidates. Raises VerifierError: one came from no one, and choosing would be unfair."""
    attempts = [
        Attempt(e.source, e.task.instruction, c.image, _target(e), c.finish_reason, f"{e.task.key}-{i}")
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
    found = iter(verdicts)
    return {e.task.key: [next(found) for _ in e.candidates] for e in edits}


def _save(folder: EvaluationFolder, edited: Edited, verdicts: Sequence[Verdict]) -> None:
    task = edited.task
    images = [candidate.image for candidate in edited.candidates]
    place = best_index(images, verdicts) if verdicts else 0
    chosen = edited.candidates[place]
    problem = chosen.problem
    try:
        target = _target(edited)
    except EarlError as error:
        target, problem = None, problem or f"its target cannot be read: {error}"
    candidates = [
        {"seed": c.seed, "status": v.status, "overall": v.overall}
        for c, v in zip(edited.candidates, verdicts, strict=bool(verdicts))
    ]
    record = _record(
        task,
        state=chosen.state,
        problem=problem,
        source=folder.save_image("sources", task.key, edited.source),
        edited=folder.save_image("edits", task.key, chosen.image) if chosen.image else None,
        target=folder.save_image("targets", task.key, target) if target else None,
        size=list(edited.source.size),
        seed=chosen.seed,
        finish_reason=chosen.finish_reason,
        seconds=round(edited.seconds, 4),
        **({"candidates": candidates, "chosen": place} if candidates else {}),
    )
    folder.edits.append(record)


def _target(edited: Edited) -> Image.Image | None:
    if edited.task.target is None:
        return None
    return resize_to(open_image(edited.task.target), edited.source.size)


def _record(task: Task, **more: Any) -> dict[str, Any]:
    empty = {"source": None, "edited": None, "target": None, "finish_reason": "stop"}
    names = ("key", "id", "number", "instruction", "family", "group", "kind")
    return {name: getattr(task, name) for name in names} | empty | more | {"at": round(time.time(), 1)}
