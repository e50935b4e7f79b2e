"""Tokenised edits on disk: Arrow shards written and read through `datasets`.

A folder holds `shards.json` (what the shards are) and `shard-00000`, `shard-00001`, …, each
complete or absent. Columns are those of `COLUMNS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value, concatenate_datasets, disable_progress_bars, load_from_disk
from datasets import Sequence as Repeated
from numpy.typing import NDArray

from earl.data.sums import SUMS, check_sums, write_sums
from earl.errors import DataError
from earl.files import new_folder, read_object, same_digest, write_json
from earl.progress import warn
from earl.records import Box, Point

FORMAT = 1
MANIFEST = "shards.json"
COLUMNS = Features(
    {
        "id": Value("string"),
        "source": Value("string"),
        "source_codes": Repeated(Value("int32")),
        "target_codes": Repeated(Value("int32")),
        "height": Value("int32"),
        "width": Value("int32"),
        "instruction": Value("string"),
        "reasoning": Value("string"),
        "family": Value("string"),
        "group": Value("string"),
        "split": Value("string"),
        "changed": Repeated(Value("bool")),
        "source_caption": Value("string"),
        "target_caption": Value("string"),
    }
)
EXTRAS = Features(
    {
        "boxes": Repeated(Value("float32")),
        "licence": Value("string"),
        "source_hash": Value("string"),
        "source_look": Value("string"),
        "target_hash": Value("string"),
        "target_look": Value("string"),
    }
)
"""Columns that shards of sources have besides: boxes flat, four numbers each; fingerprints of pixels."""
QUESTIONS = Features({"questions": Repeated(Value("string")), "answers": Repeated(Value("string"))})
"""Columns of shards with questions about the source image."""
REQUEST = Features({"request": Value("string")})
"""Column of shards whose instructions can be worded anew: what the edit asks for, as JSON."""
PAIR = Features({"other_codes": Repeated(Value("int32")), "other_changed": Repeated(Value("bool"))})
"""Columns of shards of pairs: the edit that was not preferred, and the cells that it changes."""
KEYPOINTS = Features({"keypoints": Repeated(Value("float32"))})
"""Column of shards with keypoints, flat."""
GRIDS: dict[str, type[Any]] = {
    name: np.int32 if name.endswith("codes") else np.bool_
    for name in ("source_codes", "target_codes", "changed", *PAIR)
}
"""Columns with one value a cell, and its type."""
TEXTS = [name for name, kind in {**COLUMNS, **EXTRAS, **REQUEST}.items() if kind == Value("string")]
_LATER = {"checksums", "contents"}  # not in older manifests
PART = "part.json"
"""In a shard of a source: which rows it holds."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One tokenised edit. Codes and `changed` are (H, W); captions and reasoning may be empty;
    edits with the same `source` have the same source image. Without a target image
    `target_codes` is (0, 0). Boxes and keypoints are in pixels of the resized source; hashes are those of
    `earl.data.overlap`, of the images as they came; `split` is empty where the folder's holds.
    Questions are about the source image, each with its answer. `request` says what is asked for, as JSON
    that a `data.wordings` function understands; it may be empty. `other_codes` are of an edit that is worse
    than the target, with the cells that it changes; (0, 0) where there is none."""

    id: str
    source: str
    source_codes: NDArray[np.int32]
    target_codes: NDArray[np.int32]
    changed: NDArray[np.bool_]
    instruction: str
    reasoning: str
    family: str
    group: str
    source_caption: str = ""
    target_caption: str = ""
    boxes: tuple[Box, ...] = ()
    licence: str = ""
    split: str = ""
    source_hash: str = ""
    source_look: str = ""
    target_hash: str = ""
    target_look: str = ""
    questions: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    request: str = ""
    other_codes: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))
    other_changed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    keypoints: tuple[Point, ...] = ()

    @property
    def has_target(self) -> bool:
        return self.target_codes.size > 0


class EditShards:
    """The edits of a folder of shards, read from disk as they are asked for.

    Args:
        dataset: rows with `COLUMNS`.
        manifest: what `shards.json` says.
    """

    def __init__(self, dataset: Dataset, manifest: Mapping[str, Any], name: str) -> None:
        self.dataset = dataset.with_format("numpy")
        self.manifest = dict(manifest)
        self.name = name

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the vision tokenizer that made the codes."""
        return str(self.manifest["fingerprint"])

    @property
    def codebook_size(self) -> int:
        return int(self.manifest["codebook_size"])

    @property
    def size_rule(self) -> str:
        """By which images were resized, "snap" or "release" (`earl.vision.images.target_size`)."""
        return str(self.manifest.get("size_rule", "snap"))

    @property
    def margin(self) -> int:
        """Cells by which `changed` was grown."""
        return int(self.manifest.get("margin", 1))

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Edit:
        row = self.dataset[int(index)]
        shape = int(row["height"]), int(row["width"])
        sides = np.asarray(row.get("boxes", ()), np.float64).reshape(-1, 4).tolist()
        grids: dict[str, Any] = {name: _grid(row, name, shape, kind) for name, kind in GRIDS.items()}
        texts: dict[str, Any] = {name: str(row.get(name, "")) for name in TEXTS}
        return Edit(
            **texts,
            **grids,
            boxes=tuple(Box(*box) for box in sides),
            questions=tuple(map(str, _listed(row, "questions"))),
            answers=tuple(map(str, _listed(row, "answers"))),
            keypoints=tuple(zip(*[iter(map(float, _listed(row, "keypoints")))] * 2, strict=True)),
        )

    def bundles(self, share: int) -> list[list[int]]:
        """Rows in bundles of at most `share` that have the same source image, in order."""
        if share == 1:
            return [[index] for index in range(len(self))]
        bundles: list[list[int]] = []
        previous = None
        for index, source in enumerate(self.dataset["source"][:].tolist()):
            if source != previous or len(bundles[-1]) == share:
                bundles.append([])
            bundles[-1].append(index)
            previous = source
        return bundles

    def questions(self) -> list[list[str]]:
        """The questions of each row."""
        if "questions" not in self.dataset.column_names:
            return [[] for _ in range(len(self))]
        return list(self.dataset.with_format(None)["questions"])

    def groups(self) -> dict[str, int]:
        """Number of edits by group, "simple" and "complex"."""
        return dict(Counter(self.dataset["group"][:]))

    def without_target(self) -> int:
        """Number of edits without a target image."""
        return self._without("target_codes")

    def without_pair(self) -> int:
        """Number of edits without an image that their target is preferred to."""
        return self._without("other_codes") if "other_codes" in self.dataset.column_names else len(self)

    def _without(self, column: str) -> int:
        tables = self.dataset.select_columns([column]).with_format("arrow").iter(4096)
        chunks = (chunk for table in tables for chunk in table[column].chunks)
        return sum(not length for chunk in chunks for length in chunk.value_lengths().to_pylist())

    def select(self, *, group: str = "all", families: Sequence[str] = ()) -> EditShards:
        """The edits of a group ("simple", "complex", "all") and of some families (none given: all).

        Raises:
            DataError: a family that there is not, or nothing is left.
        """
        groups = np.asarray(self.dataset["group"][:])
        names = np.asarray(self.dataset["family"][:])
        known = set(names.tolist())
        if unknown := sorted(set(families) - known):
            raise DataError(
                f"{self.name} has no edits of the family {unknown[0]!r}; it has {', '.join(sorted(known))}"
            )
        keep = np.ones(len(self), bool) if group == "all" else groups == group
        if families:
            keep &= np.isin(names, list(families))
        if not keep.any():
            raise DataError(
                f"{self.name} has no edits of group {group!r}"
                + (f" in families {', '.join(families)}" if families else "")
            )
        if keep.all():
            return self
        kept = self.dataset.select(np.flatnonzero(keep))
        return EditShards(kept, self.manifest, self.name)

    def draw(self, count: int, seed: int) -> EditShards:
        """`count` edits drawn by the seed, in their order; all where there are no more."""
        rows = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        return EditShards(self.dataset.select(rows), self.manifest, self.name)


def load_shards(path: str | Path) -> EditShards:
    """Open a folder of shards.

    Raises:
        DataError: no such folder, no shards in it, or shards that cannot be read.
    """
    folder = Path(path)
    manifest, shards = read_manifest(folder), shard_folders(folder)
    found = _open(shards, manifest, folder)
    if unchecked := sum(not (shard / SUMS).is_file() for shard in shards):
        warn(f"{unchecked} shards of {folder} have no checksums, as of an older version: damage goes unseen")
    return found


def shard_folders(folder: Path) -> list[Path]:
    """The shards of a folder that hold edits, in order. Raises DataError where there are none."""
    every = sorted(folder.glob("shard-*"))
    for index, shard in enumerate(every):
        if shard != shard_path(folder, index):
            raise DataError(
                f"{shard_path(folder, index)} is missing: it was deleted, or the preparation was cut short; "
                "run the preparation again"
            )
    shards = [shard for shard in every if not _is_empty(shard)]
    if not shards:
        raise DataError(f"{folder} has a {MANIFEST} and no shards; run its preparation again")
    return shards


def open_shard(shard: Path, manifest: Mapping[str, Any]) -> EditShards:
    """One shard of a folder by itself. Raises DataError."""
    return _open([shard], manifest, shard)


def _listed(row: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = row.get(name)
    return () if found is None else found


def _grid(row: Mapping[str, Any], name: str, shape: tuple[int, int], kind: type[Any]) -> NDArray[Any]:
    """A column's values, one a cell; (0, 0) where there are none."""
    values = np.asarray(_listed(row, name), kind)
    return values.reshape(shape if values.size else (0, 0))


def _open(shards: Sequence[Path], manifest: Mapping[str, Any], name: Path) -> EditShards:
    disable_progress_bars()
    parts = []
    for shard in shards:
        check_sums(shard, needed=manifest.get("checksums") is True)
        try:
            parts.append(load_from_disk(str(shard)))
        except Exception as error:  # `datasets` raises many kinds; all mean the same here
            raise DataError(
                f"{shard} is damaged ({str(error) or type(error).__name__}); delete it and prepare it again"
            ) from error
    try:
        dataset = concatenate_datasets(parts)
    except ValueError as error:
        raise DataError(f"shards in {name} do not fit together: {error}") from error
    if missing := set(COLUMNS) - set(dataset.column_names):
        raise DataError(f"shards in {name} lack the column {sorted(missing)[0]!r}")
    return EditShards(dataset, manifest, str(name))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `shards.json`. Raises DataError."""
    if not (folder / MANIFEST).is_file():
        what = f"holds no tokenised shards ({MANIFEST} is missing)" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; make shards by `earl prepare`")
    manifest = read_object(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise DataError(
            f"{folder} has shards of format {manifest.get('format')}; this version reads {FORMAT}"
        )
    for name, least in (("codebook_size", 1), ("margin", 0)):
        value = manifest.get(name, 1 if name == "margin" else None)
        if type(value) is not int or not least <= value <= 2**24:
            raise DataError(
                f"{folder / MANIFEST} is damaged: {name} is {str(value)[:80]!r}, expected a whole number "
                f"from {least}; prepare the data again, in another folder"
            )
    return dict(manifest)


def start_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make or continue a folder of shards made with these settings.

    Raises:
        DataError: it already holds shards made with other settings, or of another source.
    """
    manifest = {"format": FORMAT, "checksums": True, **settings}
    if (folder / MANIFEST).exists():
        present = read_manifest(folder)
        told = present.keys() | (manifest.keys() - _LATER)
        differing = sorted(key for key in told if present.get(key) != manifest.get(key))
        if "contents" in differing and same_digest(present.get("contents"), str(manifest.get("contents"))):
            differing.remove("contents")
        if differing:
            others = [key for key in differing if key != "contents"]
            made = "of another source of this name, or of this one before it changed"
            if others:
                made = f"made with {others[0]} = {present.get(others[0])!r}, now {manifest.get(others[0])!r}"
            raise DataError(f"{folder} holds shards {made}; choose another folder or delete it")
        return
    write_json(folder / MANIFEST, manifest)


def _is_empty(shard: Path) -> bool:
    """Whether all the rows of a shard were refused: it says so itself, and holds no table."""
    part = shard / PART
    return part.is_file() and read_object(part).get("edits") == 0


def shard_path(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05d}"


def write_shard(
    folder: Path,
    index: int,
    edits: Sequence[Edit],
    *,
    split: str,
    attached: Mapping[str, str] | None = None,
    replacing: bool = False,
) -> Path:
    """Write one shard, whole or not at all.

    Args:
        edits: may be empty where files are attached.
        attached: files to put into the shard, text by name; the shard then has `EXTRAS` too.
        replacing: the shard may be there already, and is put aside only when the new one is whole. A kill
            between the two leaves none.

    Raises:
        OutputError: the disk is full or not writable; shards written before are intact.
    """
    final = shard_path(folder, index)
    rows = [
        {
            **{name: getattr(edit, name) for name in (*COLUMNS, *EXTRAS, *REQUEST) if hasattr(edit, name)},
            **{name: getattr(edit, name).ravel() for name in GRIDS},
            "height": edit.source_codes.shape[0],
            "width": edit.source_codes.shape[1],
            "split": edit.split or split,
            "boxes": [side for box in edit.boxes for side in (box.left, box.top, box.right, box.bottom)],
            "questions": list(edit.questions),
            "answers": list(edit.answers),
            "keypoints": [part for point in edit.keypoints for part in point],
        }
        for edit in edits
    ]
    features = COLUMNS if attached is None else Features({**COLUMNS, **EXTRAS})
    for more in (QUESTIONS, REQUEST, PAIR, KEYPOINTS):
        if any(len(row[next(iter(more))]) for row in rows):
            features = Features({**features, **more})
    columns = {name: [row[name] for row in rows] for name in features}
    disable_progress_bars()
    assert replacing or not final.exists()
    with new_folder(final, kept="shards written before are intact") as fresh:
        if edits:
            Dataset.from_dict(columns, features=features).save_to_disk(str(fresh))
        for name, text in (attached or {}).items():
            (fresh / name).write_bytes(text.encode("utf-8", "backslashreplace"))
        write_sums(fresh)
    return final
