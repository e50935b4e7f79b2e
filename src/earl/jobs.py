"""Many edits in one go: jobs read from a file or a folder, drawn together, resumable.

A job is an image and a chain of instructions, each applied to the last result. Several variations of a job
are chains of their own. Results are lines of `results.jsonl` in the output folder, each written when its
images are on disk, so a run that was cut short goes on with the jobs that have no line.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from earl.config import SamplingSettings
from earl.errors import DataError, EarlError
from earl.files import TABLES, check_writable, checksum, claim, clear_partial, read_lines, writing
from earl.pages.sheets import Row, contact_sheet, write_image
from earl.pipeline.edit import EditPipeline
from earl.pipeline.result import EditResult, best_of, edit_each
from earl.sequence.instruction import check_instruction
from earl.store import RecordFile, only_one
from earl.verifiers.protocol import Verifier
from earl.vision.images import SUFFIXES, ImageSource, open_image
from earl.vision.saving import Provenance

RESULTS, SHEET = "results.jsonl", "sheet.png"
AT_ONCE = 16  # chains that are drawn together
SHOWN = 40  # chains on the contact sheet
_LONGEST_NAME = 50  # characters of up to 4 bytes, of the 255 that a file's name may have
_DIGITS = re.compile("[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Job:
    """One image and what is done to it, one instruction after the other, `count` times."""

    image: ImageSource
    name: str
    instructions: tuple[str, ...]
    seed: int = 0
    count: int = 1


@dataclass(slots=True)
class Chain:
    """One variation of a job: the images so far, the first one its source; or why it ended."""

    job: Job
    seed: int
    key: str
    images: list[Image.Image] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)  # of each result; they differ from `seed` with best of N
    scores: list[float] = field(default_factory=list)
    unchanged: list[bool] = field(default_factory=list)  # by result: the model gave its source back
    problem: str = ""


def read_jobs(
    paths: Sequence[Path], instructions: Sequence[str], *, seed: int = 0, count: int = 1
) -> list[Job]:
    """A job for each image, for each one of a folder, and for each row of a JSON Lines or CSV file.

    Rows have `image` (a path beside the file) and `instruction` (a text, or a list of them for a chain), and
    may have `seed` and `n`. Where there is no instruction `instructions` are taken.

    Raises:
        DataError: a line that is no job, naming it; no job at all.
        InstructionError: an instruction that cannot be.
    """
    jobs = []
    for path in paths:
        found = list(_jobs_of(path, instructions, seed, count))
        if not found:
            raise DataError(f"{path} holds no {'images' if path.is_dir() else 'jobs'}")
        jobs += found
    for job in jobs:
        if not job.instructions:
            raise DataError(f"no instruction for {job.name}; give one on the command line or in its line")
    return [replace(job, instructions=tuple(map(check_instruction, job.instructions))) for job in jobs]


def _jobs_of(path: Path, instructions: Sequence[str], seed: int, count: int) -> Iterator[Job]:
    if path.suffix.lower() in TABLES:
        rows = read_lines(path) if path.suffix.lower() == ".jsonl" else enumerate(_csv_rows(path), 2)
        yield from (_job(path, number, row, instructions, seed, count) for number, row in rows)
    else:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        files = [p for p in inside if p == path or (p.suffix.lower() in SUFFIXES and p.name[0] != ".")]
        yield from (Job(file, file.stem, tuple(instructions), seed, count) for file in files)


def _csv_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows without their empty cells, numbers of seeds and counts read."""
    from earl.data.sources.cells import PROBLEM
    from earl.data.sources.rows import TableRows  # imports pyarrow

    for row in TableRows(path).read():
        if PROBLEM in row:
            raise DataError(row[PROBLEM])
        cells = {name.strip(): text.strip() for name, text in row.items() if text.strip()}
        numbers = {name: cells[name] for name in ("seed", "n") if _DIGITS.fullmatch(cells.get(name, ""))}
        yield cells | {name: int(text) for name, text in numbers.items()}


def _job(path: Path, number: int, line: Any, instructions: Sequence[str], seed: int, count: int) -> Job:
    where = f"{path}, line {number}"
    if not isinstance(line, dict) or not isinstance(line.get("image"), str):
        example = '{"image": "photo.png", "instruction": "make it night"}'
        raise DataError(f"{where}: expected {example}, or columns of these names")
    asked = line.get("instruction", list(instructions))
    texts = [asked] if isinstance(asked, str) else asked
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: instruction is {asked!r}, expected a text or a list of texts")
    numbers = {"seed": line.get("seed", seed), "n": line.get("n", count)}
    for name, value in numbers.items():
        least, most = (0, 2**63 - 1) if name == "seed" else (1, 64)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise DataError(f"{where}: {name} is {value!r}, expected a whole number from {least} to {most}")
    file = Path(line["image"])
    return Job(path.parent / file, file.stem, tuple(texts), numbers["seed"], numbers["n"])


def chains_of(jobs: Sequence[Job], settings: Sequence[Any] = ()) -> list[Chain]:
    """A chain for each variation of each job; its key says what it is made from.

    Args:
        settings: what results depend on beside the job, fit for JSON.
    """
    chains, taken = [], set()
    for job in jobs:
        image = str(job.image), _contents(job.image)
        for number in range(job.count):
            seed = job.seed + number
            made = json.dumps([*image, job.instructions, seed, *settings])
            digest = hashlib.blake2b(made.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
            key = f"{job.name[:_LONGEST_NAME]}-{digest}"
            if key not in taken:  # the same job twice gives the same image
                taken.add(key)
                chains.append(Chain(job, seed, key))
    return chains


def _contents(image: ImageSource) -> str:
    """Checksum of an image's file, so that another one under its name is edited anew; "" without one."""
    with suppress(OSError, ValueError):
        if isinstance(image, (str, Path)) and Path(image).is_file():
            return checksum(image)
    return ""


def run_chains(
    pipeline: EditPipeline,
    chains: Sequence[Chain],
    sampling: SamplingSettings,
    finish: Callable[[Chain], None],
    *,
    draws: int = 1,
    verifier: Verifier | None = None,
    keep_outside: bool = False,
    **options: Any,
) -> None:
    """Edit, step by step, as many chains at once as fit; `finish` is called with each when it has ended.

    A chain whose image cannot be read or edited, or whose model wrote no image, ends with a `problem`.

    Args:
        draws: images drawn at each step, of which the `verifier` keeps the best.
        options: of `EditPipeline.edit_many`.
    """
    waiting = iter(chains)
    while block := list(islice(waiting, max(1, AT_ONCE // draws))):
        for chain in block:
            try:
                chain.images.append(open_image(chain.job.image))
            except EarlError as error:
                chain.problem = str(error)
        for step in range(max(len(chain.job.instructions) for chain in block)):
            going = [c for c in block if not c.problem and step < len(c.job.instructions)]
            if going:

                def draw(chains: Sequence[Chain], step: int = step) -> list[EditResult]:
                    pairs: list[tuple[ImageSource, str]] = [
                        (c.images[-1], c.job.instructions[step]) for c in chains
                    ]
                    seeds = [chain.seed * draws for chain in chains]
                    return pipeline.edit_many(pairs, sampling, seeds=seeds, num_images=draws, **options)

                for chain, result in zip(going, edit_each(draw, going), strict=True):
                    _extend(chain, pipeline, result, verifier, keep_outside)
        for chain in block:
            finish(chain)


def _extend(
    chain: Chain,
    pipeline: EditPipeline,
    result: EditResult | EarlError,
    verifier: Verifier | None,
    keep_outside: bool,
) -> None:
    """Add the image of a step to a chain, or the problem that ends it."""
    try:
        if isinstance(result, EarlError):
            raise result
        if verifier is not None:
            result, verdict = best_of(result, verifier)
            chain.scores.append(verdict.overall or 0.0)
        image = result.image
        place = result.images.index(image)
        chain.seeds.append(result.seeds[place])
        chain.unchanged.append(bool(result.unchanged[place]))
        chain.images.append(pipeline.keep_outside(chain.images[-1], image, result) if keep_outside else image)
    except EarlError as error:
        where = str(chain.job.image)
        chain.problem = f"{where}, {chain.job.instructions[len(chain.images) - 1]!r}: {error}"


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the results. Raises ValueError, KeyError or TypeError: it is none."""
    for name, kind in (("images", str), ("instructions", str), ("unchanged", bool)):
        values = line[name] if kind is str else line.get(name, [False])
        if not values or not all(isinstance(value, kind) for value in values):
            raise ValueError(f"{name} is {values!r}")
    return line


@contextmanager
def open_folder(path: Path, model: str | None = None, *, force: bool = False) -> Iterator[JobFolder]:
    """A folder of results, made where there is none; this process alone works in it.

    Raises:
        OutputError: it cannot be made, another process works in it, or it has a contact sheet without results
            and `force` is not set.
    """
    path = check_writable(path, folder=True)
    if not (path / RESULTS).exists():
        claim([path / SHEET], force=force)
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    with only_one(path):
        clear_partial(path)
        yield JobFolder(path, model)


class JobFolder:
    """The folder of a run: images, `results.jsonl`, a contact sheet.

    Args:
        model: stored in the images with seeds and hashes of the instructions; None stores nothing.

    Raises:
        DataError: a damaged line in the results that are there.
    """

    def __init__(self, path: Path, model: str | None = None) -> None:
        self.path, self.model = path, model
        self.results = RecordFile[dict[str, Any]](path / RESULTS, _checked)

    def left(self, chains: Sequence[Chain]) -> list[Chain]:
        """The chains without a result; those that failed, or whose images were removed, are tried again."""
        made = {chain.key: record["images"] for chain in chains if (record := self.results.get(chain.key))}
        self.results.drop(k for k, names in made.items() if not all((self.path / n).exists() for n in names))
        return [chain for chain in chains if chain.key not in self.results]

    def finish(self, chain: Chain) -> None:
        """Write a chain's images, then its line; one that failed is not recorded."""
        if chain.problem:
            return
        names = []
        for number, image in enumerate(chain.images[1:], 1):
            last = number == len(chain.job.instructions)
            names.append(f"{chain.key}.png" if last else f"{chain.key}-step-{number}.png")
            made = None
            if self.model is not None:
                made = Provenance(self.model, chain.seeds[number - 1], chain.job.instructions[:number])
            write_image(image, self.path / names[-1], made)
        record = {
            "source": str(chain.job.image),
            "instructions": list(chain.job.instructions),
            "seed": chain.seed,
            "images": names,
            "unchanged": chain.unchanged,
            **({"scores": chain.scores} if chain.scores else {}),
        }
        self.results.append({chain.key: record})

    def unchanged(self, chains: Sequence[Chain]) -> list[str]:
        """Last images of the chains in which the model gave an image back as it was."""
        records = filter(None, (self.results.get(chain.key) for chain in chains))
        return [record["images"][-1] for record in records if any(record.get("unchanged", ()))]

    def write_sheet(self, chains: Sequence[Chain]) -> Path | None:
        """The first chains as one image: source and results side by side."""
        rows = list(islice(self._rows(chains), SHOWN))
        if not rows:
            return None
        write_image(contact_sheet(rows), self.path / SHEET)
        return self.path / SHEET

    def _rows(self, chains: Sequence[Chain]) -> Iterator[Row]:
        for chain in chains:
            record = self.results.get(chain.key)
            if record is not None:
                images = [open_image(chain.job.image)]
                images += [open_image(self.path / name) for name in record["images"]]
                yield ", then ".join(record["instructions"]), images
