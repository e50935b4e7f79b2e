"""What a run was made with: `run.json` in its folder, one entry for each time it was started."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import earl
from earl.files import write_json

NAME = "run.json"
LIBRARIES = ("torch", "transformers", "accelerate", "peft", "datasets", "numpy", "vllm")
KEPT = 50  # starts remembered: the first and the newest


def note_start(folder: str | Path, *, step: int = 0, facts: Mapping[str, Any] | None = None) -> None:
    """Add a start to the folder's `run.json`, atomically.

    Args:
        step: where it begins or goes on.
        facts: JSON-able, such as the name of the verifier or the number of ranks.

    Raises:
        OutputError: the disk is full or not writable.
    """
    path = Path(folder) / NAME
    starts = read_starts(folder)
    entry = {"at": datetime.now(timezone.utc).isoformat(timespec="seconds"), "step": step}
    starts.append(entry | {"versions": versions(), "machine": machine()} | dict(facts or {}))
    kept = starts if len(starts) <= KEPT else [starts[0], *starts[1 - KEPT :]]
    write_json(path, {"starts": kept})


def read_starts(folder: str | Path) -> list[dict[str, Any]]:
    """The starts of a run, oldest first; none where the file is missing or not ours."""
    try:
        starts = json.loads((Path(folder) / NAME).read_text(encoding="utf-8"))["starts"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [start for start in starts if isinstance(start, dict)]


def versions() -> dict[str, str]:
    """Versions of what computes."""
    found = {"earl": earl.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, GPU. No host name."""
    import torch

    found: dict[str, Any] = {"cpu": _processor(), "cores": _cores()}
    try:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found["memory_gib"] = round(pages / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        pass
    if torch.cuda.is_available():
        found["gpus"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
