"""Prompts by number, the same on every rank and after every resume.

Either tasks that a source draws from seeds (`earl.data.tasks`), or tokenised shards, whose images are
decoded from their codes: what the policy sees, the verifier sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.data.shards import Edit, EditShards
from earl.data.tasks import EditTask, Split, TaskSource
from earl.errors import ConfigError
from earl.records import Grid
from earl.sequence import TextTokenizer, write_prompt
from earl.training.random_streams import derive_seed
from earl.vision import resize_pair


@dataclass(frozen=True, slots=True)
class Prompt:
    """An edit to be made: images for the verifier, ids for the policy. `kind` is "simple" or
    "complex"; `number` is where it came in the stream, and `key` is no other prompt's."""

    number: int
    key: str
    source: Image.Image
    target: Image.Image | None
    instruction: str
    family: str
    kind: str
    ids: tuple[int, ...]
    grid: Grid


class PromptSource(Protocol):
    """Prompts by number, without end."""

    def make(self, numbers: Sequence[int]) -> list[Prompt]: ...


class TaskPrompts:
    """Tasks of a source.

    Args:
        vision: encodes the sources.
        seed: of the run; with the split and the number it decides the task.
    """

    def __init__(
        self, vision: Any, tokenizer: TextTokenizer, tasks: TaskSource, *, seed: int, split: Split
    ) -> None:
        self._vision, self._tokenizer, self._tasks = vision, tokenizer, tasks
        self._seed, self._split = seed, split

    def make(self, numbers: Sequence[int]) -> list[Prompt]:
        """The tasks of these numbers, sources encoded together."""
        seeds = [derive_seed(self._seed, "prompts", self._split, number) for number in numbers]
        tasks = [self._tasks.draw(seed) for seed in seeds]
        area, rule = self._vision.area, self._vision.rule
        pairs = [resize_pair(task.source, task.target or task.source, area, rule) for task in tasks]
        sources = [source for source, _ in pairs]
        targets = [task.target and target for task, (_, target) in zip(tasks, pairs, strict=True)]
        codes = self._vision.encode(sources, resize=False) if sources else []
        rows = zip(numbers, tasks, sources, targets, codes, strict=True)
        return [
            _prompt(number, task.key, task, source, target, codes_HW, self._tokenizer)
            for number, task, source, target, codes_HW in rows
        ]


class ShardPrompts:
    """Edits of tokenised shards, gone through in a shuffled order, again and again."""

    def __init__(self, vision: Any, tokenizer: TextTokenizer, shards: EditShards, *, seed: int) -> None:
        if vision.fingerprint() != shards.fingerprint:
            raise ConfigError(
                f"{shards.name} was encoded by another vision tokenizer ({shards.fingerprint}) than the "
                f"model's ({vision.fingerprint()}); prepare it with the model's own"
            )
        if vision.rule != shards.size_rule:
            raise ConfigError(
                f"{shards.name}: images were resized by the rule {shards.size_rule!r}, the model's is "
                f"{vision.rule!r}; prepare it with the model's own vision tokenizer"
            )
        self._vision, self._tokenizer, self._shards, self._seed = vision, tokenizer, shards, seed
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    def make(self, numbers: Sequence[int]) -> list[Prompt]:
        """The edits of these numbers, their images decoded together; not every edit has a target."""
        edits = [self._shards[self._row(number)] for number in numbers]
        targets = [edit.target_codes for edit in edits if edit.has_target]
        images = self._vision.decode([*(edit.source_codes for edit in edits), *targets])
        sources, decoded = images[: len(edits)], iter(images[len(edits) :])
        return [
            _prompt(
                number,
                f"{edit.id}/{number}",  # small shards may come round within one step
                edit,
                source,
                next(decoded) if edit.has_target else None,
                edit.source_codes,
                self._tokenizer,
            )
            for number, edit, source in zip(numbers, edits, sources, strict=True)
        ]

    def _row(self, number: int) -> int:
        turn, place = divmod(number, len(self._shards))
        if self._order[0] != turn:
            rng = np.random.default_rng(derive_seed(self._seed, "order", turn))
            self._order = (turn, rng.permutation(len(self._shards)))
        return int(self._order[1][place])


def _prompt(
    number: int,
    key: str,
    edit: EditTask | Edit,
    source: Image.Image,
    target: Image.Image | None,
    codes_HW: NDArray[np.int32],
    tokenizer: TextTokenizer,
) -> Prompt:
    ids = tuple(write_prompt(codes_HW, edit.instruction, tokenizer))
    grid = Grid(*map(int, codes_HW.shape))
    return Prompt(number, key, source, target, edit.instruction, edit.family, edit.group, ids, grid)
