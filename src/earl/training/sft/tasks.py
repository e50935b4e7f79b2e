"""Tasks of supervised fine-tuning: what each draws from the shards, and its sequences.

A model from scratch must learn to copy an image and to find in it what words name before it learns to
edit; Emu3 had such a stage too (`BAAI/Emu3-Stage1` is where the published SFT starts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, cast

import numpy as np

from earl.config.stages import SftRecipe
from earl.data.examples import Example, Task, answer_example, cover_example, edit_example, whole_example
from earl.data.mixture import Mixture
from earl.data.shards import Edit, EditShards
from earl.errors import DataError
from earl.records import FIND
from earl.registry import WORDINGS
from earl.sequence.grammar import Prefill
from earl.sequence.tokenizer import TextTokenizer
from earl.training.random_streams import derive_seed

ASKED = ("answer", "cover")
"""Tasks that need questions."""

Wording: TypeAlias = Callable[[str, np.random.Generator], str]
"""(a shard's request, or a question; random generator) -> a wording of it."""
_WORDINGS = 79  # their random stream

Unit = Sequence[tuple[int, int]]
"""Sequences that are drawn together: (row, side of the edit or number of the question) of each."""


class SftTasks:
    """The tasks of a recipe over its sources.

    Attributes:
        units: what each task draws from each source, by "task:source"; only tasks with a share. A unit has
            at most `batch.share` sequences: questions about one source image, or its edits; captions and
            identity edits of images that follow each other.
        mixture: of the units, in the recipe's shares; an epoch has as many as the sources have bundles of
            edits.

    Raises:
        DataError: a task needs questions and a source has none.
    """

    def __init__(
        self, recipe: SftRecipe, sources: Mapping[str, EditShards], tokenizer: TextTokenizer
    ) -> None:
        self.recipe, self.sources, self.tokenizer = recipe, sources, tokenizer
        self.prefill: Prefill = "reasoning" if recipe.data.reasoning else recipe.prefill
        self.shares = {task: share for task, share in dict(recipe.tasks).items() if share > 0}
        self.units: dict[str, list[Unit]] = {}
        weights = {}
        for name, shards in sources.items():
            self._check_edits(name, shards)
            edits: list[Unit] = [[(row, 0) for row in rows] for rows in shards.bundles(recipe.batch.share)]
            for task, share in self.shares.items():
                units = edits if task == "edit" else self._units(task, name)
                self.units[f"{task}:{name}"] = units
                passes = share * len(edits) / len(units)
                weights[f"{task}:{name}"] = passes * recipe.data.sources[name].weight
        sizes = {name: len(units) for name, units in self.units.items()}
        self.mixture = Mixture(sizes, weights, seed=derive_seed(recipe.run.seed, "mixture"))
        words = recipe.data.wordings
        self._wording: Wording | None = None if words is None else WORDINGS.load(words)

    def _check_edits(self, name: str, shards: EditShards) -> None:
        """Raises DataError now, not after hours, where an edit that will be drawn cannot be written."""
        lacking, texts = {}, []
        if self.shares.keys() - {*ASKED}:
            lacking["target image"] = shards.without_target()
        if "edit" in self.shares and self.prefill == "reasoning":
            texts += ["reasoning"]
        if self.shares.keys() & {"caption_to_image", "image_to_caption"}:
            texts += ["source_caption", "target_caption"]
        for text in texts:
            tables = shards.dataset.select_columns([text]).with_format("arrow").iter(4096)
            lacking[text.replace("_", " ")] = sum(table[text].to_pylist().count("") for table in tables)
        for what, count in lacking.items():
            if count:
                how = "have it written by `earl reason make`, or " if what == "reasoning" else ""
                raise DataError(
                    f"{count} of {len(shards)} edits of {name} ({shards.name}) have no {what}, which "
                    f"supervised training needs; {how}leave their rows out and prepare the others, in "
                    "another folder. Reinforcement learning and evaluation can use them"
                )

    def encode(self, name: str, index: int) -> list[Example]:
        """The sequences of a unit of "task:source"."""
        task, _, source = name.partition(":")
        seed, drawn = derive_seed(self.recipe.run.seed, "wordings"), sum(self.mixture.drawn.values())
        examples = []
        for number, (row, part) in enumerate(self.units[name][index]):
            edit = self.sources[source][row]
            if self._wording is not None:  # the same place in the mixture gives the same words
                rng = np.random.default_rng([seed, _WORDINGS, drawn, number])
                edit = reworded(edit, self._wording, rng, questions=task in ASKED)
            examples.append(self._write(task, edit, part))
        return examples

    def held_back(self, index: int, edit: Edit) -> tuple[str, Example]:
        """A validation edit as one of the tasks, in turn, with its label: the task, or the edit's family
        where edits are the only task."""
        parts = {task: _parts(task, edit.questions) for task in self.shares}
        able = [task for task in parts if parts[task]]
        task = able[index % len(able)]
        example = self._write(task, edit, parts[task][index // len(able) % len(parts[task])])
        return (edit.family or task if list(self.shares) == ["edit"] else task), example

    def _write(self, task: str, edit: Edit, part: int) -> Example:
        if task == "edit":
            return edit_example(
                edit,
                self.tokenizer,
                prefill=self.prefill,
                stitched=self.recipe.data.stitch,
                score_forced=self.recipe.score_forced,
            )
        if task == "answer":
            return answer_example(edit, part, self.tokenizer)
        if task == "cover":
            return cover_example(edit, part, self.tokenizer)
        return whole_example(edit, cast(Literal[0, 1], part), cast(Task, task), self.tokenizer)

    def _units(self, task: str, name: str) -> list[Unit]:
        shards, share = self.sources[name], self.recipe.batch.share
        if task not in ASKED:
            return _split([(row, side) for row in range(len(shards)) for side in (0, 1)], share)
        questions, units = shards.questions(), list[Unit]()
        for rows in shards.bundles(len(shards)):
            asked = [(row, number) for row in rows for number in _parts(task, questions[row])]
            units += _split(asked, share)
        if not units:
            raise DataError(
                f"data source {name} has no questions, which tasks.{task} needs; prepare it again with "
                f"--questions 2, or set tasks.{task}=0"
            )
        return units


def reworded(edit: Edit, wording: Wording, rng: np.random.Generator, *, questions: bool = False) -> Edit:
    """The edit in new words. With `questions` its questions are worded anew instead."""
    if questions:
        return replace(edit, questions=tuple(wording(question, rng) for question in edit.questions))
    return replace(edit, instruction=wording(edit.request, rng)) if edit.request else edit


def _parts(task: str, questions: Sequence[str]) -> list[int]:
    """Numbers of an edit's questions that a task can use; tasks that need none have one part, 0."""
    if task not in ASKED:
        return [0]
    return [number for number, asked in enumerate(questions) if task == "answer" or asked.startswith(FIND)]


def _split(parts: list[tuple[int, int]], size: int) -> list[Unit]:
    return [parts[start : start + size] for start in range(0, len(parts), size)]
