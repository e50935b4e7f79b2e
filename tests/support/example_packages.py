"""The packages of examples/ as if they were installed: on the path, their entry points found."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from earl import registry

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PACKAGES = ("earl_brightness", "earl_pairs", "earl_squares", "earl_inversion")
REGISTRIES = (registry.VERIFIERS, registry.SOURCES, registry.PROMPTS, registry.BENCHMARKS)


@contextmanager
def installed(folder: Path) -> Iterator[None]:
    """Within the block each package has the metadata that installing it would write, in `folder`."""
    for package in PACKAGES:
        project = tomllib.loads((EXAMPLES / package / "pyproject.toml").read_text(encoding="utf-8"))[
            "project"
        ]
        about = folder / f"{package}-{project['version']}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
        groups = (
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
            for group, entries in project["entry-points"].items()
        )
        (about / "entry_points.txt").write_text("\n".join(groups))
    added = [str(folder), *(str(EXAMPLES / package) for package in PACKAGES)]
    sys.path[:0] = added
    _forget()
    try:
        yield
    finally:
        for path in added:
            sys.path.remove(path)
        _forget()


def _forget() -> None:
    """Registries look their entry points up again."""
    importlib.invalidate_caches()
    for kind in REGISTRIES:
        kind.__dict__.pop("_homes", None)
