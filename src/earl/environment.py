"""Importing torch quickly, the versions of the numerical libraries, and the machine that they run on."""

from __future__ import annotations

import gc
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "transformers", "accelerate", "peft", "datasets", "numpy", "vllm")


def import_torch() -> None:
    """Import torch with the garbage collector paused.

    The import makes about a million objects and no garbage. Searching them again and again takes a tenth of
    the time of a short command.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        import torch  # noqa: F401
    finally:
        if collecting:
            gc.freeze()  # what was imported stays; later searches leave it out
            gc.enable()


def versions() -> dict[str, str]:
    """Versions of earl, Python and the installed libraries; imports none of them."""
    import earl

    found = {"earl": earl.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory in GiB, GPUs. No host name. Imports torch."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found: dict[str, Any] = {"cpu": _processor(), "cores": cores}
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
