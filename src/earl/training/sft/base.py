"""The base stage of a model from scratch: what it must know before it is taught to edit.

Emu3 had such a stage too (`BAAI/Emu3-Stage1` is where the published SFT starts): a model that
knows what the words look like, that can copy an image and find in it what words name, learns to
edit from fewer edits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, cast

from earl.config.stages import BaseRecipe, BaseTasks
from earl.data.examples import (
    Example,
    Task,
    answer_example,
    cover_example,
    edit_example,
    whole_example,
)
from earl.data.mixture import Mixture
from earl.data.shards import Edit, EditShards
from earl.errors import DataError
from earl.records import FIND
from earl.sequence import TextTokenizer
from earl.training.loop import Report
from earl.training.sft.stage import PolicyStage
from earl.training.sft.wordings import Rewording
from earl.training.streams import derive_seed

TASKS = tuple(BaseTasks.model_fields)
ASKED = ("answer", "cover")
"""Tasks that need questions."""

Unit = Sequence[tuple[int, int]]
"""Sequences that are drawn together: (row, side of the edit or number of the question) of each."""


def train_base(recipe: BaseRecipe) -> Report:
    """Run or continue the base stage; leaves `run.folder/model`.

    Both images of every edit in the sources are used, with their captions; the loss is on all
    tokens that the grammar does not force. Questions and edits are about the source image; the
    loss is on what follows the instruction.

    Raises:
        DataError: the recipe asks for answers and a source has no questions.
        EarlError: see `PolicyStage` and `Trainer`.
    """
    stage = PolicyStage(recipe)
    units = base_units(recipe, stage.sources)
    write = _writer(recipe, stage.tokenizer)

    rewording = Rewording(recipe.data.wordings, derive_seed(recipe.run.seed, "wordings"))

    def encode(name: str, index: int) -> list[Example]:
        task, _, source = name.partition(":")
        examples = []
        for number, (row, part) in enumerate(units[name][index]):
            edit = rewording(stage.sources[source][row], part=number, questions=task in ASKED)
            examples.append(write(task, edit, part))
        return examples

    asked = [task for task in TASKS if getattr(recipe.tasks, task) > 0]

    def held_back(index: int, edit: Edit) -> tuple[str, Example]:
        parts = {task: _numbers(task, edit.questions) for task in asked}
        able = [task for task in asked if parts[task]]
        task = able[index % len(able)]
        return task, write(task, edit, parts[task][index // len(able) % len(parts[task])])

    mixture = rewording.mixture = base_mixture(recipe, stage.sources, units)
    return stage.train(mixture, encode, stage.validator(held_back))


def _writer(recipe: BaseRecipe, tokenizer: TextTokenizer) -> Callable[[str, Edit, int], Example]:
    def write(task: str, edit: Edit, part: int) -> Example:
        if task == "edit":
            return edit_example(edit, tokenizer, stitched=recipe.data.stitch)
        if task == "answer":
            return answer_example(edit, part, tokenizer)
        if task == "cover":
            return cover_example(edit, part, tokenizer)
        return whole_example(edit, cast(Literal[0, 1], part), cast(Task, task), tokenizer)

    return write


def base_units(recipe: BaseRecipe, sources: dict[str, EditShards]) -> dict[str, list[Unit]]:
    """What each task draws from each source, by "task:source"; only tasks with a share.

    A unit has at most `batch.share` sequences. Questions about one source image, and its edits,
    come together; a whole image is followed by the next one.
    """
    share = recipe.batch.share
    found: dict[str, list[Unit]] = {}
    for task in TASKS:
        if not getattr(recipe.tasks, task):
            continue
        for name, shards in sources.items():
            if task == "edit":
                units: list[Unit] = [[(row, 0) for row in rows] for rows in shards.bundles(share)]
            elif task in ASKED:
                units = _questions(task, shards, share, name)
            else:
                units = _cut([(row, side) for row in range(len(shards)) for side in (0, 1)], share)
            found[f"{task}:{name}"] = units
    return found


def _questions(task: str, shards: EditShards, share: int, name: str) -> list[Unit]:
    questions = shards.questions()
    units: list[Unit] = []
    for rows in shards.bundles(len(shards)):
        units += _cut([(row, number) for row in rows for number in _numbers(task, questions[row])], share)
    if not units:
        raise DataError(
            f"data source {name} has no questions, which tasks.{task} needs; prepare it again with "
            f"--questions 2, or set tasks.{task}=0"
        )
    return units


def _numbers(task: str, questions: Sequence[str]) -> list[int]:
    """Which of an edit's questions a task can use; tasks that need none have one part, 0."""
    if task not in ASKED:
        return [0]
    return [n for n, asked in enumerate(questions) if task == "answer" or asked.startswith(FIND)]


def _cut(parts: list[tuple[int, int]], size: int) -> list[Unit]:
    return [parts[start : start + size] for start in range(0, len(parts), size)]


def base_mixture(recipe: BaseRecipe, sources: dict[str, EditShards], units: dict[str, list[Unit]]) -> Mixture:
    """The tasks of every source in the recipe's shares; an epoch has one sequence for each edit."""
    weights = {}
    for name, found in units.items():
        task, _, source = name.partition(":")
        wanted = getattr(recipe.tasks, task) * len(sources[source]) / recipe.batch.share
        weights[name] = wanted / len(found) * recipe.data.sources[source].weight
    sizes = {name: len(found) for name, found in units.items()}
    return Mixture(sizes, weights, seed=derive_seed(recipe.run.seed, "mixture"))
