"""Prompts by number, the same on every rank and after every resume.

Either tasks that a source draws from seeds (`earl.data.tasks`), or tokenised shards, whose images are
decoded from their codes: what the policy sees, the verifier sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from earl.data.mixture import Mixture
from earl.data.shards import Edit, EditShards
from earl.data.tasks import EditTask, Split, TaskSource
from earl.data.weights import pick
from earl.records import Grid
from earl.sequence.layout import write_prompt
from earl.sequence.tokenizer import TextTokenizer
from earl.training.random_streams import derive_seed
from earl.vision.images import resize_pair


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
        pool: different tasks, at most; then they come again.
    """

    def __init__(
        self,
        vision: Any,
        tokenizer: TextTokenizer,
        tasks: TaskSource,
        *,
        seed: int,
        split: Split,
        pool: int | None = None,
    ) -> None:
        self._vision, self._tokenizer, self._tasks = vision, tokenizer, tasks
        self._seed, self._split, self._pool = seed, split, pool

    def make(self, numbers: Sequence[int]) -> list[Prompt]:
        """The tasks of these numbers, sources encoded together."""
        places = [number % self._pool if self._pool else number for number in numbers]
        seeds = [derive_seed(self._seed, "prompts", self._split, place) for place in places]
        tasks = [self._tasks.draw(seed) for seed in seeds]
        area, rule = self._vision.area, self._vision.rule
        pairs = [resize_pair(task.source, task.target or task.source, area, rule) for task in tasks]
        sources = [source for source, _ in pairs]
        targets = [task.target and target for task, (_, target) in zip(tasks, pairs, strict=True)]
        codes = self._vision.encode(sources, resize=False) if sources else []
        rows = zip(numbers, tasks, sources, targets, codes, strict=True)
        again = [f"/{number}" if self._pool else "" for number in numbers]  # tasks of a pool come again
        return [
            _prompt(number, task.key + mark, task, source, target, codes_HW, self._tokenizer)
            for (number, task, source, target, codes_HW), mark in zip(rows, again, strict=True)
        ]


def mixed(
    sizes: Mapping[str, int], weights: Mapping[str, float], *, pool: int | None, seed: int
) -> Iterator[tuple[str, int]]:
    """Rows of several sources without end: a source by weight, each in a shuffled order.

    Args:
        weights: of each source, as a `Mixture` takes them.
        pool: different rows that come, at most; drawn once, in the shares that the weights give.
        seed: decides everything.
    """
    shares = {name: sizes[name] * weights[name] for name in sizes}
    total = sum(sizes.values())
    rows = pick(total if pool is None else min(pool, total), sizes, shares, seed=derive_seed(seed, "pool"))
    within = {name: len(places) for name, places in rows.items()}
    passes = {name: shares[name] / within[name] if within[name] else 0.0 for name in sizes}
    mixture = Mixture(within, passes, seed=derive_seed(seed, "order"))
    return ((name, rows[name][place]) for name, place in mixture)


class ShardPrompts:
    """Edits of tokenised shards by number.

    Args:
        shards: of each source, by name.
        rows: the source and the row of each number in turn; the same at each start of a run.
    """

    def __init__(
        self,
        vision: Any,
        tokenizer: TextTokenizer,
        shards: Mapping[str, EditShards],
        rows: Iterator[tuple[str, int]],
    ) -> None:
        self._vision, self._tokenizer, self.shards = vision, tokenizer, shards
        self._rows, self._drawn = rows, list[tuple[str, int]]()

    def make(self, numbers: Sequence[int]) -> list[Prompt]:
        """The edits of these numbers, their images decoded together; not every edit has a target."""
        edits = [self._edit(number) for number in numbers]
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

    def _edit(self, number: int) -> Edit:
        while len(self._drawn) <= number:
            self._drawn.append(next(self._rows))
        name, row = self._drawn[number]
        return self.shards[name][row]


def shards_of(source: PromptSource) -> Mapping[str, EditShards]:
    """The shards that prompts come from, by name; {} of tasks."""
    return source.shards if isinstance(source, ShardPrompts) else {}


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
