"""Benchmarks: tasks in a fixed order, each with an id and a file name of its own.

`open_benchmark` finds one by name: a registered one (`earl.registry.BENCHMARKS`), `package.module:attribute`,
or own data. The paper's six are declared in `earl.evaluation.benchmarks`. No torch is needed.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from earl.config import BenchmarkSettings
from earl.config.evaluation import BENCHMARK_OPTIONS
from earl.data.sources.builtin import SCHEMAS
from earl.data.sources.opening import OpenedSource, open_source
from earl.data.sources.sample import Read, Sample
from earl.data.tokenise import on_side
from earl.errors import ConfigError, DataError
from earl.registry import BENCHMARKS, is_path

if TYPE_CHECKING:
    from earl.vision.images import ImageSource

_LONGEST = 96  # bytes of a key's readable part; a file name has room for 255


@dataclass(frozen=True, slots=True)
class Task:
    """One edit to be made.

    Attributes:
        key: unique in its benchmark and safe as a file name.
        id: unique too; the row's own, with "~2" where an earlier row had the same.
        number: counts the tasks from 0; seeds count with it.
        kind: the benchmark's own division, "" where it has none.
        mask, caption: the region that the edit belongs in, and what the edited image is to show, where the
            benchmark measures with them.
        problem: why the task cannot be read; it then has no source.
        details: texts of the row that the benchmark's own questions need, by column.
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
    mask: ImageSource | None = None
    caption: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


class Benchmark(Protocol):
    """A list of editing tasks with a name and a title.

    Optional attributes: `verifier` (the kind that judges it unless another is asked for, such as "scene"),
    `area` (px² of its images, where all have one size) and `measured` (true where its figures are metrics,
    so that no judge is needed).
    """

    name: str
    title: str

    def tasks(self) -> Iterator[Task]:
        """Tasks in an order that never changes. Raises DataError where the data cannot be read."""
        ...

    def describe(self) -> dict[str, Any]:
        """Everything that decides the tasks, as JSON; a run goes on only where it is the same.

        "name" and "title" must be there. "column" is the benchmark's in the paper's table of results,
        "kinds" are the names of its own division.
        """
        ...


@dataclass(frozen=True)
class DeclaredBenchmark:
    """A benchmark of other people's files; calling it opens it.

    Attributes:
        name: on the command line.
        title: in tables.
        schema: the name of its columns' declaration in `earl.data.sources`.
        about: what it holds, in a sentence.
        column: in tables of published results (`earl.evaluation.published`); "": none are kept.
        kinds: the benchmark's own division: the families of each kind, in lower case without blanks.
        groups: families that are not of the group that the schema gives them.
        turns: the number at the end of an id is that of its turn, which is its family.
        hub_patterns: files that are fetched from the Hub; all where empty.
        archive: file of the publisher that holds the images, to be unpacked first; "": none does.
        mean: what published figures are: means of all edits, of the families' means, or the share of edits
            that are solved (`exact`).
        measured: its figures are metrics of masks and captions, not a judge's scores.
    """

    name: str
    title: str
    schema: str
    about: str
    column: str = ""
    kinds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    turns: bool = False
    hub_patterns: tuple[str, ...] = ()
    archive: str = ""
    mean: Literal["edits", "families", "solved"] = "edits"
    measured: bool = False

    def __call__(
        self, settings: BenchmarkSettings, *, area: int | None = None, seed: int = 0
    ) -> SourceBenchmark:
        """Open it.

        Raises:
            DataError: no files where the settings say, or columns missing; the Hub cannot be reached.
        """
        check_taken(self.name, settings, ("path", "hub", "columns", "split", "draw", "seed"))
        hub = SCHEMAS[self.schema].hub
        if settings.hub == (settings.path is not None) or (settings.hub and not hub):
            fetched = f", or --hub to fetch {hub} from the Hub" if hub else "; it is not on the Hub"
            raise DataError(f"where is {self.name}? Give its files with --path{fetched}")
        if settings.hub and self.archive:
            raise DataError(
                f"the images of {self.name} lie in {self.archive} of {SCHEMAS[self.schema].hub}, which --hub "
                "does not unpack; unpack it, and give the table beside the images with --path"
            )
        if settings.hub:
            settings = settings.replace(hub=False, path=str(self.fetch()))
        source = open_source(self.schema, settings)
        given = {"split": settings.split} if settings.split else {}
        kinds = {"kinds": sorted(self.kinds)} if self.kinds else {}
        mean = {"mean": self.mean} if self.mean != "edits" else {}
        fixed = {"column": self.column, "hub": SCHEMAS[self.schema].hub, **kinds, **mean, **given}
        fixed |= _mapped(settings)
        fixed["contents"] = source.contents()
        return SourceBenchmark(self.name, self.title, source, fixed, self._place, measured=self.measured)

    def fetch(self) -> Path:
        """Its files from the Hub, or from the Hub's cache. Raises DataError: they cannot be had."""
        from huggingface_hub import snapshot_download

        repository = SCHEMAS[self.schema].hub
        patterns = list(self.hub_patterns) or None
        try:
            return Path(snapshot_download(repository, repo_type="dataset", allow_patterns=patterns))
        except Exception as error:  # the network and the Hub fail in many ways, with one meaning for the user
            raise DataError(
                f"{repository} could not be fetched from the Hub ({type(error).__name__}); check the "
                f"connection and `hf auth login`, or give a local copy of {self.name} with --path"
            ) from error

    def _place(self, sample: Sample) -> tuple[str, str, str]:
        own_id = self.turns and not sample.id.startswith(f"{self.schema}-")  # else made of the row's number
        turn = re.search(r"-(\d)$", sample.id) if own_id else None
        family = f"turn {turn[1]}" if turn else sample.family
        plain = re.sub(r"[\s_-]+", "", family.lower())
        kind = next((kind for kind, families in self.kinds.items() if plain in families), "")
        return family, self.groups.get(plain, sample.group), kind


class SourceBenchmark:
    """A benchmark whose rows come from a source.

    Args:
        fixed: what fixes the tasks besides the source's draw, for `describe`.
        place: a sample's family, group and kind.
        keep: which rows are tasks; all where None.
        measured: tasks have their masks and captions.
    """

    def __init__(
        self,
        name: str,
        title: str,
        source: OpenedSource,
        fixed: Mapping[str, Any],
        place: Callable[[Sample], tuple[str, str, str]],
        keep: Callable[[Read], bool] | None = None,
        *,
        measured: bool = False,
    ) -> None:
        self.name, self.title, self.source, self.measured = name, title, source, measured
        self._fixed, self._place, self._keep = dict(fixed), place, keep

    def tasks(self) -> Iterator[Task]:
        """Tasks in the order of the rows; rows that cannot be read have a problem."""
        names = TaskNames()
        rows = self.source.read()
        for number, row in enumerate(filter(self._keep, rows) if self._keep else rows):
            key, id = names.take(row.id)
            if row.sample is None:
                yield Task(key, id, number, problem=row.problem)
                continue
            sample = row.sample
            family, group, kind = self._place(sample)
            words = sample.instruction, family, group, kind
            region = (sample.mask, sample.target_caption) if self.measured else (None, "")
            yield Task(key, id, number, *words, sample.source, sample.target, "", *region, sample.details)

    def describe(self) -> dict[str, Any]:
        draw = {"draw": self.source.draw, "draw_seed": self.source.seed} if self.source.draw else {}
        return {"name": self.name, "title": self.title, **draw, **self._fixed}


class TaskNames:
    """Keys and ids of tasks, each unique, the same each time they are given out."""

    def __init__(self) -> None:
        self._keys: set[str] = set()
        self._ids: set[str] = set()

    def take(self, id: str) -> tuple[str, str]:
        """(key, id) of the next task."""
        unique = _numbered(id, self._ids, str)
        return _numbered(file_name(unique), self._keys, str.casefold), unique


def file_name(id: str) -> str:
    """An id as a file name: letters of any script, digits and . _ ~ - stay, others become "_".

    A name that was changed or cut ends in "~" and a hash of the id, so that different ids stay different.
    """
    plain = plain_name(id)
    if plain == id:
        return plain
    cut = plain.encode()[:_LONGEST].decode(errors="ignore").rstrip("._") or "task"
    return f"{cut}~{blake2b(id.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"


def plain_name(id: str) -> str:
    """`file_name` without its hash: at most 96 bytes, "task" where nothing is left."""
    safe = "".join(c if c in "._~-" or unicodedata.category(c)[0] in "LMN" else "_" for c in id)
    safe = unicodedata.normalize("NFC", safe).strip("._")
    return safe.encode()[:_LONGEST].decode(errors="ignore").rstrip("._") or "task"


def open_benchmark(
    name: str, settings: BenchmarkSettings | None = None, *, area: int | None = None, seed: int = 0
) -> Benchmark:
    """A benchmark by name.

    Args:
        name: a registered name, `package.module:attribute`, or own data: a file, a folder, `hub:OWNER/NAME`.
        settings: what is asked of it.
        area: px² that the editor works at, for benchmarks that draw their images; None if unknown.
        seed: of the sampling, for benchmarks whose tasks are drawn anew.

    Raises:
        ConfigError: settings that the benchmark does not take, or a factory that cannot be imported.
        DataError: no such benchmark or file, or no column with sources or instructions.
    """
    settings = settings or BenchmarkSettings()
    is_data = name.startswith("hub:") or Path(name).expanduser().exists()
    if name in BENCHMARKS.names() or (name in BENCHMARKS and not is_data):
        benchmark: Benchmark = BENCHMARKS.load(name)(settings, area=area, seed=seed)
        return benchmark
    if not is_data:
        if is_path(name):
            raise DataError(f"there is nothing at {name}; check the path")
        known = BENCHMARKS.names()
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"benchmarks are {', '.join(known)}"
        raise DataError(f"{name!r} is no benchmark, and no file or folder of own data; {hint}")
    return _open_own(name, settings)


def _open_own(name: str, settings: BenchmarkSettings) -> SourceBenchmark:
    """Own data. Of what is held back as many tasks are drawn as are asked for, not of all rows."""
    held = ("holdout", "holdout_test")
    check_taken("own data", settings, ("columns", "split", "draw", "seed", "group", *held))
    shares = {name: share for name in held if (share := getattr(settings, name))}
    draw = settings.draw if shares else None
    source = open_source(name, settings if draw is None else settings.replace(draw=0), default_split="test")
    fixed = {"split": source.split, "group": settings.group, **_mapped(settings), **shares}
    fixed["contents"] = source.contents()

    drawn: frozenset[int] | None = None

    def keep(read: Read) -> bool:
        return on_side(read, settings, source.split) if drawn is None else read.number in drawn

    if draw:
        fixed |= {"draw": draw, "draw_seed": settings.seed}
        rows = [read.number for read in source.read() if keep(read)]
        places = np.random.default_rng(settings.seed).permutation(len(rows))[:draw]
        drawn = frozenset(rows[place] for place in places)
    return SourceBenchmark(
        source.name,
        source.name,
        source,
        fixed,
        lambda sample: (sample.family or "own", sample.group, ""),
        keep,
    )


def _mapped(settings: BenchmarkSettings) -> dict[str, Any]:
    """The columns that were named, for `describe`."""
    columns = {name: list(columns) for name, columns in settings.columns.items()}
    return {"columns": columns} if columns else {}


def check_taken(name: str, settings: BenchmarkSettings, taken: tuple[str, ...]) -> None:
    """Refuse settings that a benchmark does not take. Raises ConfigError."""
    default = BenchmarkSettings()
    for given in BenchmarkSettings.model_fields:
        if given not in taken and getattr(settings, given) != getattr(default, given):
            options = ", ".join(f"--{BENCHMARK_OPTIONS[each]}" for each in taken)
            raise ConfigError(f"{name} takes no --{BENCHMARK_OPTIONS[given]}; it takes {options}")


def _numbered(name: str, taken: set[str], fold: Callable[[str], str]) -> str:
    """A name that is not taken yet: itself, or with "~2", "~3", …"""
    unique, count = name, 1
    while fold(unique) in taken:
        count += 1
        unique = f"{name}~{count}"
    taken.add(fold(unique))
    return unique
