"""Measure speed on this machine: `python -m benchmarks [NAME …]`, all of them without a name.

A benchmark is a file of this folder with a `main(argv) -> None` that prints what it measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from importlib import import_module
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    chosen = parser.parse_args().names or NAMES
    unknown = sorted(set(chosen) - set(NAMES))
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    print(f"{machine()}, {time.strftime('%Y-%m-%d')}")
    for name in chosen:
        print(f"\n== {name}", flush=True)
        began = time.perf_counter()
        import_module(f"benchmarks.{name}").main([])
        print(f"({time.perf_counter() - began:.0f} s)", flush=True)


def machine() -> str:
    """What the numbers hold for: processor, cores, torch, GPU."""
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{cpu}, {os.cpu_count()} cores{gpu}, torch {torch.__version__}"


if __name__ == "__main__":
    main()
