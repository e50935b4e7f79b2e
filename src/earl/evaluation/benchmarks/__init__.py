"""The benchmarks, one file each, and finding the one that was named."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from earl.evaluation.benchmark import Declared, plain_name
from earl.evaluation.benchmarks import aurora, emuedit, i2ebench, magicbrush, omniedit, vismin
from earl.evaluation.benchmarks.own import open_own
from earl.registry import BENCHMARKS

DECLARED: dict[str, Declared] = {
    module.BENCHMARK.name: module.BENCHMARK
    for module in (omniedit, emuedit, magicbrush, aurora, vismin, i2ebench)
}
"""The paper's six, by the name on the command line."""


def unknown(name: str) -> str:
    """The sentence for a name that is neither a benchmark nor a path."""
    known = [*BENCHMARKS.names(), *DECLARED]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"benchmarks are {', '.join(known)}"
    return f"{name!r} is no benchmark, and no file or folder of own data; {hint}"


def strangers(name: str, families: Iterable[str]) -> list[str]:
    """Families that a benchmark's file does not know: they stand for themselves and have no kind."""
    kinds = DECLARED[name].kinds if name in DECLARED else {}
    return [family for family in families if family and kinds and plain_name(family) not in kinds]


__all__ = ["DECLARED", "open_own", "strangers", "unknown"]
