"""Checkpoints that are whole or absent.

Everything is written into a hidden folder beside the others, flushed to disk, and renamed: a
kill or a full disk at any moment leaves the checkpoints that were there before as they were.
Tensors are safetensors, the rest is JSON; nothing here can run code when it is read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from earl.errors import CheckpointError
from earl.files import clear_partial, new_folder

FORMAT = 1
_PREFIX = "step-"
_STATE = "state.json"


@dataclass(frozen=True)
class Snapshot:
    """The state of a run at a step: groups of tensors by file name, and a JSON-able rest."""

    step: int
    tensors: Mapping[str, Mapping[str, Tensor]]
    state: Mapping[str, Any]


def save_snapshot(folder: Path, snapshot: Snapshot) -> Path:
    """Write `folder/step-00000123`, atomically.

    Raises:
        OutputError: the disk is full, read-only, …; what was saved before is intact.
    """
    final = folder / f"{_PREFIX}{snapshot.step:08d}"
    with new_folder(final, kept="the checkpoints before it are intact") as fresh:
        sizes = {}
        for name, tensors in snapshot.tensors.items():
            path = fresh / f"{name}.safetensors"
            save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, path)
            sizes[path.name] = path.stat().st_size
        document = {"format": FORMAT, "step": snapshot.step, "files": sizes, "state": snapshot.state}
        (fresh / _STATE).write_text(json.dumps(document), encoding="utf-8")
    return final


def load_snapshot(path: Path) -> Snapshot:
    """Read one checkpoint folder.

    Raises:
        CheckpointError: a file is missing, truncated, or of another format.
    """
    try:
        document = json.loads((path / _STATE).read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise CheckpointError(
                f"checkpoint {path} has format {document['format']}; this version reads format {FORMAT}"
            )
        tensors = {}
        for name, size in document["files"].items():
            file = path / name
            if file.stat().st_size != size:
                raise CheckpointError(
                    f"checkpoint file {file} has {file.stat().st_size} bytes, expected {size}"
                )
            tensors[name.removesuffix(".safetensors")] = load_file(file)
    except CheckpointError:
        raise
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    return Snapshot(document["step"], tensors, document["state"])


def list_checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a folder, oldest first; partial ones do not count."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if (path / _STATE).is_file())


def checkpoint_step(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX))


def thin_checkpoints(
    folder: Path, *, keep: int, milestone: int | None = None, protected: frozenset[int] = frozenset()
) -> list[Path]:
    """Delete old checkpoints, and what a killed save left; returns what was deleted.

    Kept are the newest `keep`, multiples of `milestone`, and the protected steps.
    """
    deleted = []
    for path in list_checkpoints(folder)[:-keep]:
        step = checkpoint_step(path)
        if step in protected or (milestone and step % milestone == 0):
            continue
        # The state file goes first: a kill in the middle leaves something that is plainly not whole.
        (path / _STATE).unlink()
        shutil.rmtree(path, ignore_errors=True)
        deleted.append(path)
    clear_partial(folder)
    return deleted
