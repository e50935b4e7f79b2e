"""The folder of an evaluation: what was asked for, images, and three files that grow.

    evaluation.json   benchmark, editor and verifier; written first, never changed
    edits.jsonl       a line per task: its image, or why there is none
    sources/ edits/ targets/   PNG, named by the task's key
    verdicts.jsonl    a line per edit: scores or a status, with the verifier's raw answers
    metrics.jsonl     a line per edit with a target: PSNR and the like
    results.json, table.md, table.tex, table.csv   written last

An image is there before the line that names it, so a line is never wrong; an image without a
line is made again, from the same seed.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from earl.errors import ConfigError, DataError, OutputError
from earl.files import only_one, write_bytes, write_text, writing
from earl.store import JsonLinesStore

MARKER = "evaluation.json"
FORMAT = 1
PLACES = ("sources", "edits", "targets")


class EvaluationFolder:
    """A folder that exists already; see `start` for a new one.

    Raises (on making one):
        DataError: it is no evaluation's folder, or its files are damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.plan = read_plan(self.path)
        self.edits = JsonLinesStore(self.path / "edits.jsonl")
        self.verdicts = JsonLinesStore(self.path / "verdicts.jsonl")
        self.metrics = JsonLinesStore(self.path / "metrics.jsonl")

    @classmethod
    def start(cls, path: str | Path, plan: Mapping[str, Any]) -> EvaluationFolder:
        """Begin an evaluation, or go on with one that was begun with the same plan.

        Args:
            plan: "benchmark", "editor" and "verifier", each a JSON object (verifier may be None:
                it is fixed by the run that judges first).

        Raises:
            ConfigError: the folder holds another evaluation; says what differs.
            OutputError: the folder holds something else, or cannot be written.
        """
        folder = Path(path).expanduser()
        wanted = json.loads(json.dumps(dict(plan)))
        if (folder / MARKER).exists():
            found = read_plan(folder)
            _check_same(found, wanted, folder)
            if found.get("verifier") is None and wanted.get("verifier") is not None:
                write_text(folder / MARKER, _text(found | {"verifier": wanted["verifier"]}))
        else:
            if folder.is_dir() and any(folder.iterdir()):
                raise OutputError(f"{folder} holds something that is no evaluation; name another folder")
            if folder.exists() and not folder.is_dir():
                raise OutputError(f"{folder} is a file; name a folder")
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / MARKER, _text({"format": FORMAT} | wanted))
        return cls(folder)

    @property
    def name(self) -> str:
        """What was evaluated."""
        return str(self.plan["editor"].get("name", "?"))

    @property
    def complete(self) -> bool:
        """Whether every task of the benchmark has its line in edits.jsonl."""
        return (self.path / "edits.done").is_file()

    def finish_edits(self) -> None:
        write_text(self.path / "edits.done", f"{len(self.edits)}\n")

    def save_image(self, place: str, key: str, image: Image.Image) -> str:
        """Write a PNG; returns its path in the folder."""
        assert place in PLACES
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "PNG")
        write_bytes(self.path / place / f"{key}.png", buffer.getvalue())
        return f"{place}/{key}.png"

    def picture(self, name: str | None) -> Image.Image | None:
        """An image that a line names. Raises DataError: it is gone or damaged."""
        if name is None:
            return None
        try:
            with Image.open(self.path / name) as image:
                return image.convert("RGB")
        except OSError as error:
            raise DataError(
                f"{self.path / name} is missing or damaged ({error}); restore it, or remove its line "
                f"from {self.path / 'edits.jsonl'} and {self.path / 'edits.done'}, and run again"
            ) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing here. Raises OutputError: one does already."""
        with only_one(self.path):
            yield


def is_evaluation(path: str | Path) -> bool:
    """Whether a folder is an evaluation's."""
    return (Path(path) / MARKER).is_file()


def read_plan(folder: Path) -> dict[str, Any]:
    """What `evaluation.json` says. Raises DataError: there is none, or it cannot be read."""
    try:
        plan = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        if plan["format"] > FORMAT:
            raise DataError(f"{folder / MARKER} is of format {plan['format']}, upgrade earl to read it")
        assert isinstance(plan["benchmark"], dict) and isinstance(plan["editor"], dict)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} is no evaluation: it has no {MARKER}; give a folder that `earl evaluate … -o` wrote"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{folder / MARKER} cannot be read ({error}); evaluate into another folder"
        ) from error
    return plan


def _check_same(found: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    for section in ("benchmark", "editor", "verifier"):
        had, now = found.get(section), wanted.get(section)
        if section == "verifier" and (had is None or now is None):
            continue
        for name in sorted({*(had or {}), *(now or {})}):
            was, new = (had or {}).get(name), (now or {}).get(name)
            if was != new:
                advice = (
                    "to judge the same edits anew, pass --predictions with this folder and another -o"
                    if section == "verifier"
                    else "name another folder with -o"
                )
                raise ConfigError(
                    f"{folder} was begun with {section} {name} = {was!r}, now it is {new!r}; {advice}"
                )


def _text(plan: Mapping[str, Any]) -> str:
    return json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
