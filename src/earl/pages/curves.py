"""Charts of a run's numbers, grouped by `curves.toml`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from earl.files import parse_toml, read_text
from earl.pages.charts import Chart, Drawing, Series, draw
from earl.pages.run_record import RunRecord
from earl.pages.smoothing import Point, smooth

SPECIFICATION = Path(__file__).with_name("curves.toml")
TIMES = ("sampling", "decoding", "judging", "updating")
HIDDEN = {"groups", "seconds_per_step", "sampler_ratio", *(f"seconds_{name}" for name in TIMES)}
MEMBER = "{member}"


@dataclass(frozen=True)
class TimeSplit:
    """Seconds of a step by what they were spent on: (name, share of all, colour), and their chart."""

    shares: Sequence[tuple[str, float, int]]
    drawn: Drawing


def sections(run: RunRecord) -> dict[str, list[Chart]]:
    """The charts of a run by section; numbers that no chart names come last, each by itself."""
    found: dict[str, list[Chart]] = {}
    named: set[tuple[str, str]] = set()
    for entry in _entries(run):
        lines = [_line(text) for text in entry["lines"]]
        named |= {(split, name) for split, name, _ in lines}
        series = [
            Series(legend, points, colour, marked=split == "validation")
            for colour, (split, name, legend) in enumerate(lines)
            if (points := run.series(split, name))
        ]
        if series and ("needs" not in entry or run.series(*entry["needs"].split())):
            least, most = (*entry.get("range", ()), None, None)[:2]
            chart = Chart(entry["title"], entry["note"], series, least, most, entry.get("exact", False))
            found.setdefault(entry["section"], []).append(chart)
    for split in run.log:
        for name in run.names(split):
            points = run.series(split, name)
            if (split, name) in named or name in HIDDEN or name.endswith(".failed") or not points:
                continue
            line = Series(f"{split}: {name}", points, 0, marked=split != "train")
            found.setdefault("Other numbers", []).append(Chart(name.replace("_", " "), split, [line]))
    return found


def time_split(run: RunRecord) -> TimeSplit | None:
    """Time of the steps by phase; None where the run does not log it."""
    lines = {name: run.series("train", f"seconds_{name}") for name in TIMES}
    lines = {name: points for name, points in lines.items() if points}
    if not lines or len({len(points) for points in lines.values()}) > 1:
        return None
    window = max(1, len(next(iter(lines.values()))) // 30)
    series = [Series(name, smooth(points, window), at) for at, (name, points) in enumerate(lines.items())]
    note = "Judging is what the trainer waited for the verifier after its last completion."
    seconds = [sum(value for _, value in points) for points in lines.values()]
    whole = sum(seconds) or 1.0
    shares = [(name, value / whole, at) for at, (name, value) in enumerate(zip(lines, seconds, strict=True))]
    return TimeSplit(shares, draw(Chart("Seconds of a step", note, series, least=0.0, stacked=True)))


def ends(points: Sequence[Point]) -> Point | None:
    """Mean of the first and of the last tenth of a curve; None for no points."""
    if not points:
        return None
    count = max(1, len(points) // 10)
    values = [value for _, value in points]
    return sum(values[:count]) / count, sum(values[-count:]) / count


def _entries(run: RunRecord) -> Iterator[dict[str, Any]]:
    """The charts of the run's stage, those of a sum's verifiers once for each of them."""
    overall = ".overall"
    members = [name.removesuffix(overall) for name in run.names("train") if name.endswith(overall)]
    for entry in parse_toml(read_text(SPECIFICATION), SPECIFICATION.name)["charts"]:
        if entry.get("stage", run.stage) != run.stage:
            continue
        if not any(MEMBER in text for text in entry["lines"]):
            yield entry
        elif MEMBER in entry["title"]:
            for member in members:
                lines = [text.replace(MEMBER, member) for text in entry["lines"]]
                yield entry | {"title": entry["title"].replace(MEMBER, member), "lines": lines}
        else:
            yield entry | {"lines": [t.replace(MEMBER, m) for t in entry["lines"] for m in members]}


def _line(text: str) -> tuple[str, str, str]:
    """Split, name in the log, name in the legend."""
    number, _, legend = text.partition(" = ")
    split, _, name = number.partition(" ")
    return split, name, legend or name.replace("_", " ")
