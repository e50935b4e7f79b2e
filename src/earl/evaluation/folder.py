"""The folder of an evaluation: what was asked for, images, and three files that grow.

    evaluation.json   benchmark, editor and verifier; written first, never changed
    edits.jsonl       a line per task: its image, or why there is none
    sources/ edits/ targets/ masks/   PNG, named by the task's key
    verdicts.jsonl    a line per edit: scores or a status, with the verifier's raw answers
    metrics.jsonl     a line per edit with a target or a mask: PSNR and the like
    results.json, table.md, table.tex, table.csv   written last

An image is there before the line that names it, so a line is never wrong; an image without a
line is made again, from the same seed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from PIL import Image
from pydantic import TypeAdapter

from earl.config.evaluation import Failures
from earl.errors import ConfigError, DataError, OutputError
from earl.evaluation.records import EditRecord, EditState, edit_from_json, edit_to_json
from earl.files import (
    check_writable,
    read_object,
    same_digest,
    sync,
    write_bytes,
    write_json,
    write_text,
    writing,
)
from earl.records import Verdict
from earl.store import RecordFile
from earl.vision.saving import encode_image

MARKER = "evaluation.json"
FORMAT = 1
Place = Literal["sources", "edits", "targets", "masks"]
PLACES: tuple[Place, ...] = get_args(Place)
JUDGED: Mapping[Failures, tuple[EditState, ...]] = {
    "exclude": ("edited", "no_image"),
    "as-released": ("edited", "no_image", "missing", "refused"),
}
"""States of an edit that get a verdict, by the rule for failures; in the others there is nothing to judge."""
Metrics = Mapping[str, "float | None"]
"""Distances of one edit to its target; None where an image is too small for one."""


_METRICS: TypeAdapter[Metrics] = TypeAdapter(Metrics)


class EvaluationFolder:
    """A folder that exists already; see `start` for a new one.

    Args:
        durable: what is written is flushed to the disk, image by image before their lines.

    Raises (on making one):
        DataError: it is no evaluation's folder, or its files are damaged.
    """

    def __init__(self, path: str | Path, *, durable: bool = True) -> None:
        self.path, self._durable = Path(path).expanduser(), durable
        self._unflushed: list[Path] = []
        self.plan = read_plan(self.path)
        self.edits: RecordFile[EditRecord] = RecordFile(
            self.path / "edits.jsonl", edit_from_json, edit_to_json, durable=durable
        )
        self.verdicts: RecordFile[Verdict] = RecordFile(
            self.path / "verdicts.jsonl", Verdict.from_json, Verdict.to_json, durable=durable
        )
        self.metrics: RecordFile[Metrics] = RecordFile(
            self.path / "metrics.jsonl",
            lambda record: _METRICS.validate_python({n: v for n, v in record.items() if n != "key"}),
            dict,
            durable=durable,
        )

    @staticmethod
    def start(path: str | Path, plan: Mapping[str, Any]) -> Path:
        """Begin an evaluation, or go on with one that was begun with the same plan.

        Args:
            plan: "benchmark", "editor" and "verifier", each a JSON object (verifier may be None:
                it is fixed by the run that judges first).

        Returns:
            `path`, expanded.

        Raises:
            ConfigError: the folder holds another evaluation; says what differs.
            OutputError: the folder holds something else, or cannot be written.
        """
        folder = check_writable(path, folder=True)
        wanted = json.loads(json.dumps(dict(plan)))
        if (folder / MARKER).exists():
            begun = read_plan(folder)
            _check_same(begun, wanted, folder)
            if begun.get("verifier") is None and wanted.get("verifier") is not None:
                write_json(folder / MARKER, begun | {"verifier": wanted["verifier"]})
        else:
            if folder.is_dir() and any(folder.iterdir()):
                raise OutputError(f"{folder} holds something that is no evaluation; name another folder")
            write_json(folder / MARKER, {"format": FORMAT} | wanted)
        return folder

    @property
    def name(self) -> str:
        """Name of what was evaluated."""
        return str(self.plan["editor"].get("name", "?"))

    @property
    def failures(self) -> Failures:
        """The rule for missing images and unusable answers."""
        return failures_of(self.plan.get("verifier"))

    @property
    def complete(self) -> bool:
        """Whether every task of the benchmark has its line in edits.jsonl."""
        return (self.path / "edits.done").is_file()

    def finish_edits(self) -> None:
        write_text(self.path / "edits.done", f"{len(self.edits)}\n")

    def save_image(self, place: Place, key: str, image: Image.Image) -> str:
        """Write a PNG; returns its path in the folder. `add_edits` flushes it."""
        content = encode_image(image.convert("RGB"), "PNG")
        path = write_bytes(self.path / place / f"{key}.png", content, durable=False)
        self._unflushed.append(path)
        return f"{place}/{key}.png"

    def add_edits(self, edits: Sequence[EditRecord]) -> None:
        """Add lines to edits.jsonl, after the images that they name."""
        with writing(self.path):
            for path in (*self._unflushed, *{path.parent for path in self._unflushed}):
                if self._durable:
                    sync(path)
        self._unflushed.clear()
        self.edits.append({edit.key: edit for edit in edits})

    def image(self, name: str | None) -> Image.Image | None:
        """An image that a line names. Raises DataError: it is gone or damaged."""
        if name is None:
            return None
        try:
            with Image.open(self.path / name, formats=["PNG"]) as image:
                return image.convert("RGB")
        except OSError as error:
            raise DataError(
                f"{self.path / name} is missing or damaged ({error}); restore it, or remove its line "
                f"from {self.path / 'edits.jsonl'} and {self.path / 'edits.done'}, and run again"
            ) from error


def failures_of(verifier: Mapping[str, Any] | None) -> Failures:
    """How the means treat failed edits, by the settings of a plan's verifier (`earl.evaluation.scores`)."""
    return "as-released" if (verifier or {}).get("failures") == "as-released" else "exclude"


def is_evaluation(path: str | Path) -> bool:
    """Whether a folder is an evaluation's."""
    return (Path(path) / MARKER).is_file()


def read_plan(folder: Path) -> dict[str, Any]:
    """Read `evaluation.json`. Raises DataError: there is none, or it cannot be read."""
    if not is_evaluation(folder):
        what = f"is no evaluation: it has no {MARKER}" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; give a folder that `earl evaluate … -o` wrote")
    plan = read_object(folder / MARKER)
    if not (isinstance(plan.get("format"), int) and plan["format"] <= FORMAT):
        raise DataError(f"{folder / MARKER} is of format {plan.get('format')}; upgrade earl to read it")
    benchmark, editor, verifier = (plan.get(name) or {} for name in ("benchmark", "editor", "verifier"))
    tables = all(isinstance(part, dict) for part in (benchmark, editor, verifier))
    if not tables or not ({"name", "title"} <= benchmark.keys() and "name" in editor):
        raise DataError(f"{folder / MARKER} does not say what was evaluated; evaluate into another folder")
    return plan


def _check_same(begun: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    for section in ("benchmark", "editor", "verifier"):
        had, now = begun.get(section), wanted.get(section)
        if section == "verifier" and (had is None or now is None):
            continue
        for name in sorted({*(had or {}), *(now or {})}):
            was, new = (had or {}).get(name), (now or {}).get(name)
            if name in ("contents", "weights", "files") and same_digest(was, str(new)):
                continue
            if name == "contents" and was is None:  # begun before it was noted
                continue
            if name in ("contents", "files") and was != new:
                what = "data" if name == "contents" else "images"
                raise ConfigError(
                    f"{folder} is an evaluation of other {what} of this name, or of these before they "
                    "changed; name another folder with -o"
                )
            if was != new:
                advice = (
                    "to judge the same edits anew, pass --predictions with this folder and another -o"
                    if section == "verifier"
                    else "name another folder with -o"
                )
                raise ConfigError(
                    f"{folder} was begun with {section} {name} = {was!r}, now it is {new!r}; {advice}"
                )
