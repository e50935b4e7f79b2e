"""Atomic checkpoints, with a checksum of every file.

A checkpoint is a folder that is filled under another name, flushed to disk and renamed
(`earl.files.new_folder`): a kill or a full disk at any moment leaves the checkpoints that were there
before as they were. Tensors are safetensors, the rest is JSON; nothing here can run code when it is read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from earl.errors import CheckpointError
from earl.files import checksum, clear_partial, new_folder, read_object, write_json

FORMAT = 2
_PREFIX = "step-"
_STATE = "state.json"


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at a step: groups of tensors by file name, and a JSON-able rest."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def checkpoint_path(folder: Path, step: int) -> Path:
    """Path of a step's checkpoint: `folder/step-00000123`."""
    return folder / f"{_PREFIX}{step:08d}"


def save_snapshot(folder: Path, snapshot: Snapshot) -> Path:
    """Write a checkpoint, atomically.

    Raises:
        OutputError: the disk is full, read-only, …; what was saved before is intact.
    """
    final = checkpoint_path(folder, snapshot.step)
    with new_folder(final, kept="the checkpoints before it are intact") as fresh:
        sums = {}
        for name, tensors in snapshot.tensors.items():
            path = fresh / f"{name}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
            sums[path.name] = checksum(path)
        body = {"format": FORMAT, "step": snapshot.step, "files": sums, "state": snapshot.state}
        write_json(fresh / _STATE, {"checksum": _body_sum(body), **body}, indent=None)
    return final


def load_snapshot(path: Path) -> Snapshot:
    """Read one checkpoint folder.

    Raises:
        CheckpointError: a file is missing or damaged, or the checkpoint is of another format.
    """
    document = read_object(path / _STATE, error=CheckpointError)
    told = document.pop("checksum", None)
    if document.get("format") != FORMAT:
        raise CheckpointError(
            f"checkpoint {path} has format {document.get('format')}; this version reads format {FORMAT}"
        )
    if told != _body_sum(document):
        raise CheckpointError(f"checkpoint file {path / _STATE} is damaged: its checksum is another")
    tensors = {}
    for name, expected in document["files"].items():
        file = path / name
        try:
            if checksum(file) != expected:
                raise CheckpointError(f"checkpoint file {file} is damaged: its checksum is another")
            tensors[name.removesuffix(".safetensors")] = load_file(file)
        except CheckpointError:
            raise
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"checkpoint file {file} cannot be read: {error}") from error
    return Snapshot(document["step"], tensors, document["state"])


def newest_snapshot(folder: Path) -> tuple[Snapshot | None, list[str]]:
    """The newest checkpoint that is intact, and what is wrong with the newer ones; None where there is none.

    Raises:
        CheckpointError: there are checkpoints, and none can be read; or a file in one's place.
        PermissionError: the newest one may not be read.
    """
    problems: list[str] = []
    for path in sorted(folder.glob(f"{_PREFIX}*"), reverse=True):
        if not path.is_dir():
            raise CheckpointError(f"{path} is no folder, so no checkpoint; remove it")
        try:
            return load_snapshot(path), problems
        except CheckpointError as error:
            if isinstance(error.__cause__, PermissionError):  # not damaged: no reason to go back
                raise error.__cause__ from None
            problems.append(str(error))
    if problems:
        raise CheckpointError(
            f"{problems[0]}; no checkpoint in {folder} is intact, so the run cannot go on: remove its folder "
            "to begin again"
        )
    return None, problems


def list_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a folder, oldest first; partial ones do not count."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if (path / _STATE).is_file())


def thin_checkpoints(
    folder: Path, *, keep: int, milestone: int | None = None, protected: frozenset[int] = frozenset()
) -> list[Path]:
    """Delete old checkpoints, and what a killed save left; returns what was deleted.

    Kept are the newest `keep`, multiples of `milestone`, and the protected steps.
    """
    deleted = []
    for path in list_checkpoints(folder)[:-keep]:
        step = int(path.name.removeprefix(_PREFIX))
        if step in protected or (milestone and step % milestone == 0):
            continue
        # The state file goes first: a kill in the middle leaves something that is plainly not whole.
        (path / _STATE).unlink()
        shutil.rmtree(path, ignore_errors=True)
        deleted.append(path)
    clear_partial(folder)
    return deleted


def _body_sum(body: Mapping[str, Any]) -> str:
    return blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()
