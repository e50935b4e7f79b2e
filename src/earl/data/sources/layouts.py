"""Folders as their publishers lay them out: a table of names, and images beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path

import numpy as np
from PIL import Image

from earl.data.sources.cells import PROBLEM, Row
from earl.data.sources.rows import Rows, TableRows
from earl.data.sources.schema import Schema

PIE_SIDE = 512  # px of PIE-Bench's images and masks
PIE_TYPES = {
    "0": "random",
    "1": "change object",
    "2": "add object",
    "3": "delete object",
    "4": "change content",
    "5": "change pose",
    "6": "change color",
    "7": "change material",
    "8": "change background",
    "9": "change style",
}


class ChainedRows:
    """Several tables as one."""

    quick = True

    def __init__(self, parts: Sequence[TableRows], name: str) -> None:
        self.parts, self.name = list(parts), name
        self.files = [part.path for part in parts]

    def count(self) -> int:
        return sum(part.count() for part in self.parts)

    def read(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[Row]:
        return islice(chain.from_iterable(part.read() for part in self.parts), start, None)


def open_layout(schema: Schema, folder: Path, splits: Sequence[str]) -> tuple[Rows, Path] | None:
    """Rows of a folder in its publisher's layout, and where its paths begin; None if it is not one.

    Args:
        splits: names of the split, best first.
    """
    finder = {
        "magicbrush": _magicbrush,
        "aurora": _aurora,
        "frames": _frames,
        "i2ebench": _i2ebench,
        "pie": _pie,
    }
    return finder[schema.layout](folder, splits) if schema.layout else None


def _magicbrush(folder: Path, splits: Sequence[str]) -> tuple[Rows, Path] | None:
    """`edit_turns.json` and `images/ID/ID-input.png, ID-mask1.png, ID-output1.png`."""
    for place in (folder, *(folder / split for split in splits)):
        if (place / "edit_turns.json").is_file():
            return TableRows(place / "edit_turns.json", partial(_turn, place / "images")), place
    return None


def _turn(images: Path, row: Row) -> Row:
    output = str(row["output"]) if "output" in row else ""
    name, _, rest = output.rpartition("-output")
    out: Row = {"img_id": name, "turn_index": rest.split(".")[0], "instruction": row.get("instruction", "")}
    for given, ours in (("input", "source_img"), ("output", "target_img"), ("mask", "mask_img")):
        if row.get(given):
            out[ours] = str(images / name / str(row[given]))
    return out


def _aurora(folder: Path, splits: Sequence[str]) -> tuple[Rows, Path] | None:
    """A JSON list with `input`, `output`, `instruction`; paths begin at the repository's root."""
    for split in splits:
        if (folder / f"{split}.json").is_file():
            return TableRows(folder / f"{split}.json"), folder
    return None


def _frames(folder: Path, splits: Sequence[str]) -> tuple[Rows, Path] | None:
    """AURORA's list with paths, or the publisher's labels (`id`, `label`) and `frames/ID/first.jpg`."""
    for name in (f"{prefix}{split}.json" for split in splits for prefix in ("", "something-something-v2-")):
        if (folder / name).is_file():
            return TableRows(folder / name, partial(_frame, folder)), folder
    return None


def _frame(folder: Path, row: Row) -> Row:
    if "input" in row or "id" not in row:
        return row
    frames = folder / "frames" / str(row["id"])
    return {**row, "first_frame": str(frames / "first.jpg"), "last_frame": str(frames / "last.jpg")}


def _i2ebench(folder: Path, splits: Sequence[str]) -> tuple[Rows, Path] | None:
    """`EditData/TASK/TASK.json` with numbered entries (`image`, `ori_exp`) and `EditData/TASK/input/`."""
    data = folder / "EditData" if (folder / "EditData").is_dir() else folder
    tables = []
    for task in sorted(path for path in data.iterdir() if (path / "input").is_dir()):
        named = sorted(p for p in task.glob("*.json") if not any(letter.isdigit() for letter in p.name))
        if named:
            tables.append(TableRows(named[0], partial(_entry, task)))
    return (ChainedRows(tables, str(data)), data) if tables else None


def _pie(folder: Path, splits: Sequence[str]) -> tuple[Rows, Path] | None:
    """`mapping_file.json` with numbered entries, and `annotation_images/`."""
    table = folder / "mapping_file.json"
    return (TableRows(table, _mapped), folder / "annotation_images") if table.is_file() else None


def _mapped(row: Row) -> Row:
    """Prompts without the brackets around what differs, and the mask, lengths of runs, as an image."""
    prompts = {
        name: str(row.get(name, "")).replace("[", "").replace("]", "")
        for name in ("original_prompt", "editing_prompt")
    }
    kind = str(row.get("editing_type_id", ""))
    try:
        mask = _mask(row.get("mask") or [])
    except (TypeError, ValueError):
        return {PROBLEM: "the mask is no list of starts and lengths"}
    return {**row, **prompts, "mask": mask, "editing_type": PIE_TYPES.get(kind, kind)}


def _mask(runs: Sequence[int]) -> Image.Image:
    """White where the edit belongs; the border counts as edited, as the publisher has it."""
    flat = np.zeros(PIE_SIDE * PIE_SIDE, np.uint8)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        flat[start : start + length] = 255
    mask_HW = flat.reshape(PIE_SIDE, PIE_SIDE)
    mask_HW[[0, -1], :] = mask_HW[:, [0, -1]] = 255
    return Image.fromarray(mask_HW)


def _entry(task: Path, row: Row) -> Row:
    return {
        "task": task.name,
        "sample_id": row.get("__key__", ""),
        "instruction": row.get("ori_exp", ""),
        "image": str(task / "input" / str(row["image"])) if row.get("image") else "",
    }
