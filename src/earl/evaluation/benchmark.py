"""What a benchmark is: tasks in a fixed order, each with a name of its own, and how they are grouped.

The files of `earl.evaluation.benchmarks` say what is particular to each one; here is what they
share. Rows and columns are `earl.data.sources`', no torch is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from earl.data.sources import SCHEMAS, OpenedSource, Sample, open_source
from earl.errors import DataError

if TYPE_CHECKING:
    from earl.vision import ImageSource

DRAW_SEED = 42
"""Of the rows drawn from EmuEdit and I2EBench (EARL, arXiv 2508.01119)."""

_LONGEST = 80  # characters of a key
_UNSAFE = re.compile(r"[^A-Za-z0-9._~-]+")


@dataclass(frozen=True, slots=True)
class Task:
    """One edit to be made.

    `key` is unique in its benchmark and safe as a file name; `number` counts the tasks from 0, and
    seeds count with it; `kind` is the benchmark's own division, "" where it has none. A task that
    cannot be read has a `problem` and no source.
    """

    key: str
    id: str
    number: int
    instruction: str = ""
    family: str = ""
    group: str = "simple"
    kind: str = ""
    source: ImageSource | None = None
    target: ImageSource | None = None
    problem: str = ""


class Benchmark(Protocol):
    """Tasks, and what they are called."""

    name: str
    title: str
    column: str

    def tasks(self) -> Iterator[Task]:
        """Tasks in an order that never changes. Raises DataError where the data cannot be read."""
        ...

    def describe(self) -> dict[str, Any]:
        """What fixes the tasks, as JSON; a run goes on only where it is the same."""
        ...


@dataclass(frozen=True)
class Declared:
    """One of the paper's benchmarks, as its file declares it.

    Attributes:
        name: on the command line.
        title: in tables.
        schema: the name of its columns' declaration in `earl.data.sources`.
        column: in the paper's table of results (`earl.evaluation.published`).
        about: what it holds, in a sentence.
        kinds: the benchmark's own division: family, in lower letters without blanks, to kind.
        groups: families that are not of the group that the schema gives them.
        family_of: a sample's family, where the schema's is not fine enough.
        hub_patterns: files that are fetched from the Hub; the split's where empty.
    """

    name: str
    title: str
    schema: str
    column: str
    about: str
    kinds: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    family_of: Callable[[Sample], str] | None = None
    hub_patterns: tuple[str, ...] = ()

    @property
    def draw(self) -> int:
        """Rows that the paper drew; 0: all."""
        return SCHEMAS[self.schema].draw


class SourceBenchmark:
    """A benchmark whose rows come from a source.

    Args:
        declared: one of the paper's; None for own data.
        source: opened.
        own: what fixes own data, for `describe`.
    """

    def __init__(
        self, declared: Declared | None, source: OpenedSource, own: Mapping[str, Any] | None = None
    ) -> None:
        self.declared, self.source = declared, source
        self.name = declared.name if declared else source.name
        self.title = declared.title if declared else source.name
        self.column = declared.column if declared else ""
        self._own = dict(own or {})

    def tasks(self) -> Iterator[Task]:
        """Tasks in the order of the rows; rows that cannot be read have a problem."""
        keys = Keys()
        for place, read in enumerate(self.source.read()):
            key = keys.take(read.id)
            if read.sample is None:
                yield Task(key, read.id, place, problem=read.problem)
                continue
            sample = read.sample
            family, group, kind = self._place(sample)
            yield Task(
                key, read.id, place, sample.instruction, family, group, kind, sample.source, sample.target
            )

    def describe(self) -> dict[str, Any]:
        drawn = {"draw": self.source.draw, "draw_seed": self.source.seed} if self.source.draw else {}
        return {"name": self.name, "title": self.title, "column": self.column, **drawn, **self._own}

    def _place(self, sample: Sample) -> tuple[str, str, str]:
        declared = self.declared
        if declared is None:
            return sample.family or "own", sample.group, ""
        family = declared.family_of(sample) if declared.family_of else sample.family
        plain = plain_name(family)
        return family, declared.groups.get(plain, sample.group), declared.kinds.get(plain, "")


class Keys:
    """Names of tasks that are unique and safe as file names, the same each time they are given out."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, name: str) -> str:
        """The key of the next task: its id made safe, with a number where another had it before."""
        base = safe_name(name)
        key, count = base, 1
        while key.lower() in self._taken:
            count += 1
            key = f"{base}~{count}"
        self._taken.add(key.lower())
        return key


def safe_name(name: str) -> str:
    """An id as a file name: letters, digits, dots, hyphens and underscores, at most 80 of them."""
    return _UNSAFE.sub("_", name).strip("._")[:_LONGEST] or "task"


def plain_name(family: str) -> str:
    """A family without capitals, blanks and underscores, for looking it up."""
    return re.sub(r"[\s_-]+", "", family.lower())


def open_declared(
    declared: Declared,
    *,
    path: str | Path | None = None,
    hub: bool = False,
    columns: Mapping[str, tuple[str, ...]] | None = None,
    split: str | None = None,
    draw: int | None = None,
    seed: int = DRAW_SEED,
) -> SourceBenchmark:
    """Open one of the paper's benchmarks.

    Args:
        path: parquet, Arrow or tar files, or the publisher's folder.
        hub: fetch its files from the Hub first (they stay in the Hub's cache). Never done unasked.
        columns: a mapping that goes before the declared columns.
        draw: rows drawn at random; None takes the paper's number, 0 all rows.
        seed: of the draw.

    Raises:
        DataError: no files there, or columns missing.
    """
    if hub == (path is not None):
        raise DataError(
            f"where is {declared.name}? Give its files with --path, or --hub to fetch "
            f"{SCHEMAS[declared.schema].hub} from the Hub"
        )
    if hub:
        path = fetch(declared)
    source = open_source(declared.schema, path=path, columns=columns or {}, split=split, draw=draw, seed=seed)
    given = {"split": split} if split else {}
    return SourceBenchmark(declared, source, given | {"hub": SCHEMAS[declared.schema].hub})


def fetch(declared: Declared) -> Path:
    """A benchmark's files from the Hub, or from its cache. Raises DataError: they cannot be had."""
    from huggingface_hub import snapshot_download

    schema = SCHEMAS[declared.schema]
    patterns = list(declared.hub_patterns) or None
    try:
        return Path(snapshot_download(schema.hub, repo_type="dataset", allow_patterns=patterns))
    except Exception as error:  # the network and the Hub fail in many ways, with one meaning for the user
        raise DataError(
            f"{schema.hub} could not be fetched from the Hub ({type(error).__name__}); check the connection "
            f"and `hf auth login`, or give a local copy of {declared.name} with --path"
        ) from error
