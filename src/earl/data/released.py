"""Samples that the authors published already tokenised (`mair-lab/earl-datasets`), as shards.

A list, `tokenized_datalist.json`, names files of one sample each: `{"prefix": folder, "path_list": [names]}`.
A file is a pickle of `original_image` and `edited_image` (image codes, 2-D), `instruction`, and perhaps `CoT`
(chains of thought by key). Only tensors, NumPy arrays of numbers (which the release's own script writes) and
texts are read (`torch.load(weights_only=True)`); what else a file holds is refused by its name and never run.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earl.config.data import PreparationSettings
from earl.data.shards import Edit
from earl.data.sources.sample import Read
from earl.data.tokenise import Made
from earl.errors import DataError
from earl.files import read_object
from earl.records import EditGroup
from earl.sequence.instruction import trimmed
from earl.sequence.reasoning import clean_reasoning, join_chains

HUB = "mair-lab/earl-datasets"
LIST = "tokenized_datalist.json"
IMAGES = ("original_image", "edited_image")
_DTYPES = [type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "fd"]
_RECONSTRUCT: Any = np.ndarray.__reduce__(np.empty(0))[0]  # NumPy 1 and 2 name it differently
_PREFIX = re.compile(r"^edit_instruction:\s*")  # VisMin's instructions carry it


@dataclass
class ReleasedSamples:
    """The samples of one list, in its order: both a source and the stage that reads it for `prepare_source`.

    Args:
        listed: the list, or the folder that it is in or below.
        codebook_size: codes are smaller than it.

    Raises (by `open`): DataError where there is no list, several, or one of another form.
    """

    listed: Path
    places: tuple[Path, ...]
    names: tuple[str, ...]
    codebook_size: int
    split: str = "train"
    group: EditGroup = "complex"

    @classmethod
    def open(cls, path: str | Path, codebook_size: int, *, split: str, group: EditGroup) -> ReleasedSamples:
        """See the class."""
        path = Path(path).expanduser()
        found = [path] if path.is_file() else sorted(path.rglob(LIST))
        if len(found) != 1:
            names = ", ".join(str(each) for each in found[:4]) or "none"
            raise DataError(f"{path} has {len(found)} lists of samples ({names}); name one {LIST}")
        listed, content = found[0], read_object(found[0])
        listed_names = content.get("path_list")
        if not isinstance(listed_names, list) or not all(isinstance(name, str) for name in listed_names):
            raise DataError(f"{listed} has no path_list of file names; expected the authors' {LIST}")
        prefix = Path(str(content.get("prefix") or "."))
        above = listed.parent.parent
        places = (
            prefix,
            listed.parent / prefix,
            above / prefix.name,
            above / "feature",
            above,
            listed.parent,
        )
        return cls(listed, places, tuple(listed_names), codebook_size, split, group)

    @property
    def name(self) -> str:
        return self.listed.parent.parent.name or "released"

    def describe(self) -> dict[str, Any]:
        names = blake2b("\0".join(self.names).encode("utf-8", "surrogatepass"), digest_size=8)
        told = {"origin": HUB, "list": self.listed.name, "samples": len(self.names), "split": self.split}
        return {**told, "contents": names.hexdigest()}

    def origin(self) -> dict[str, Any]:
        return {"name": self.name, "hub": HUB, "read_from": str(self.listed.name)}

    def count(self) -> int:
        return len(self.names)

    def read(self, start: int = 0) -> Iterator[Read]:
        for number in range(start, len(self.names)):
            yield Read(number, Path(self.names[number]).stem, None)

    def __call__(
        self, blocks: Iterator[list[Read]], settings: PreparationSettings, split: str
    ) -> Iterator[Made]:
        for block in blocks:
            edits, refused = [], []
            for read in block:
                try:
                    edits.append(self.edit(read.number))
                except DataError as error:
                    refused.append({"row": read.number, "id": read.id, "reason": str(error)})
            yield Made(block[-1].number + 1, len(block), edits, refused)

    def edit(self, number: int) -> Edit:
        """One sample. Raises DataError: no such file, or it holds something else."""
        name = self.names[number]
        path = next((place / name for place in self.places if (place / name).is_file()), None)
        if path is None:
            raise DataError(f"{name} is neither where the list says nor beside it")
        content = _load(path)
        source, target = (self._codes(content, image, name) for image in IMAGES)
        if source.shape != target.shape:
            raise DataError(f"{name}: grids differ, {source.shape} and {target.shape}")
        instruction = content.get("instruction")
        if not isinstance(instruction, str) or not trimmed(instruction):
            raise DataError(f"{name}: no instruction")
        stem = Path(name).stem
        return Edit(
            id=stem,
            source=f"{stem}-source",
            source_codes=source,
            target_codes=target,
            changed=source != target,
            instruction=_PREFIX.sub("", trimmed(instruction)),
            reasoning=clean_reasoning(join_chains(_chains(content, name))),
            family=stem.rpartition("_")[0] or self.name,
            group=self.group,
            split=self.split,
        )

    def _codes(self, content: dict[str, Any], image: str, name: str) -> NDArray[np.int32]:
        value: Any = content.get(image)
        try:
            array = value if isinstance(value, np.ndarray) else value.numpy()
        except (AttributeError, TypeError, RuntimeError):  # no tensor, or one that NumPy does not know
            array = np.empty(0)
        if array.ndim != 2 or array.dtype.kind not in "iu" or not array.size:
            raise DataError(f"{name}: {image} is no 2-D tensor of whole numbers")
        codes: NDArray[np.int32] = array.astype(np.int32)
        if codes.min() < 0 or codes.max() >= self.codebook_size:
            raise DataError(
                f"{name}: {image} has codes of {codes.min()} to {codes.max()}; the tokenizer's are 0 to "
                f"{self.codebook_size - 1}"
            )
        return codes


def _load(path: Path) -> dict[str, Any]:
    import torch

    arrays: list[Any] = [np.ndarray, np.dtype, *_DTYPES]
    arrays += [(_RECONSTRUCT, f"numpy.{core}.multiarray._reconstruct") for core in ("_core", "core")]
    try:
        with torch.serialization.safe_globals(arrays):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, zipfile.BadZipFile) as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f"holds {named[1]}, which is no tensor" if named else "is damaged, or no file of tensors"
        raise DataError(f"{path.name} {what}; nothing of it was run") from error
    if not isinstance(content, dict):
        raise DataError(f"{path.name} holds a {type(content).__name__}, expected {', '.join(IMAGES)} by name")
    return content


def _chains(content: dict[str, Any], name: str) -> dict[str, str]:
    chains = content.get("CoT") or {}
    if not isinstance(chains, dict) or not all(isinstance(text, str) for text in chains.values()):
        raise DataError(f"{name}: CoT is not texts by key")
    return {str(key): text for key, text in chains.items()}
