"""The page of a training run: one HTML file that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from earl.files import write_text
from earl.pages.charts import draw
from earl.pages.curves import ends, sections, time_split
from earl.pages.rendering import file_url, number, render
from earl.pages.run_record import Line, RunRecord, read_run
from earl.pages.samples import group_rows, heldout_rows

LAST = ("Time", "Other numbers")  # sections that do not come first
SHEETS = 4  # of a stage that keeps sheets of images and no strips
TILES = {
    "grpo": (
        ("train", "reward", "reward, first and last tenth"),
        ("validation", "overall", "held out, the verifier"),
        ("validation", "second", "held out, second verifier"),
        ("train", "entropy_visual", "visual entropy, nats"),
        ("train", "kl", "KL to reference, nats"),
        ("train", "zero_variance", "groups without variance"),
    ),
    "": (
        ("train", "loss", "loss, first and last tenth"),
        ("validation", "loss", "validation loss"),
        ("validation", "exact", "exact edits"),
        ("validation", "psnr", "PSNR, dB"),
    ),
}


def run_page(run: RunRecord) -> str:
    """The page's HTML; the run may still be going on."""
    drawn = {name: [draw(chart) for chart in charts] for name, charts in sections(run).items()}
    newest = sorted(run.sheets, key=lambda path: path.stem.rpartition("-")[2])[-SHEETS:]
    return render(
        "run.html",
        title=str(run.recipe.get("title") or run.folder.resolve().name),
        facts=_facts(run),
        tiles=[*_tiles(run)],
        sections=[(name, charts) for name, charts in drawn.items() if name not in LAST],
        time=time_split(run),
        time_charts=drawn.get("Time", []),
        others=drawn.get("Other numbers", []),
        heldout=heldout_rows(run.heldout),
        groups=group_rows(run.samples),
        sheets=[(path.stem, file_url(path)) for path in newest],
        recipe=run.recipe_text,
        made_with=_made_with(run),
    )


def write_run_page(folder: str | Path, out: str | Path) -> Path:
    """Read a run's folder and write its page; the run may still be going on.

    Raises:
        DataError: the folder is not a run's.
        OutputError: the page cannot be written; an older one is as before.
    """
    return write_text(out, run_page(read_run(folder)))


def _facts(run: RunRecord) -> list[str]:
    """The line under the title."""
    total = f" of {run.total:,}" if run.total else ""
    seed = run.recipe.get("run", {}).get("seed", "?")
    words = [f"{run.stage} run", f"step {run.step:,}{total}", f"seed {seed}"]
    if run.starts:
        words.append(f"begun {_when(run.starts[0])}")
    if len(run.starts) > 1:
        words.append(f"started {len(run.starts)} times")
    judges = run.starts[-1] if run.starts else {}
    for role, title in (("verifier", "verifier"), ("second", "second verifier")):
        if judges.get(role):
            words.append(f"{title}: {judges[role]}")
    return words


def _tiles(run: RunRecord) -> Iterator[tuple[str, str]]:
    """The run in a few numbers: first and last tenth of its curves, three digits each."""
    for split, name, label in TILES.get(run.stage, TILES[""]):
        if found := ends(run.series(split, name)):
            first, last = (number(float(f"{value:.3g}")) for value in found)
            yield f"{first} → {last}", label
    seconds = sum(value for _, value in run.series("train", "seconds_per_step"))
    lines = len(run.log.get("train", ()))
    if seconds and lines:
        yield _duration(seconds * run.step / lines), "training, without held-out looks"


def _made_with(run: RunRecord) -> list[tuple[str, str]]:
    """Versions, hardware and the times that the run was started."""
    if not run.starts:
        return []
    last = run.starts[-1]
    machine = last.get("machine", {})
    hardware = [str(machine.get("cpu", "?")), f"{machine.get('cores', '?')} cores"]
    if isinstance(machine.get("memory_gib"), int | float):
        hardware.append(f"{machine['memory_gib']:g} GiB memory")
    hardware += map(str, machine.get("gpus", []))
    rows = [
        ("seed", str(run.recipe.get("run", {}).get("seed", "?"))),
        ("hardware", ", ".join(hardware)),
        ("ranks, device", f"{last.get('ranks', '?')} on {last.get('device', '?')}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in last.get("versions", {}).items())),
        ("started", ", ".join(f"{_when(s)} at step {s.get('step', '?')}" for s in run.starts[-8:])),
    ]
    return rows + [(role, str(last[role])) for role in ("verifier", "second") if last.get(role)]


def _when(start: Line) -> str:
    """The time of a start as people read it: 2026-11-21 09:00 UTC."""
    try:
        at = datetime.fromisoformat(str(start["at"]))
    except (KeyError, ValueError):
        return str(start.get("at", "?"))
    return f"{at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
