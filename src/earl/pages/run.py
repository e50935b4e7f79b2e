"""The page of a run: one HTML file that needs nothing beside it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from string import Template

from earl.errors import OutputError
from earl.pages.charts import LEFT, RIGHT, WIDTH, Chart, area_chart, line_chart, number
from earl.pages.curves import ends, sections, time_split
from earl.pages.reading import Line, RunRecord, read_run
from earl.pages.wall import group_wall, heldout_wall, inline

TEMPLATE = Path(__file__).with_name("run.html")
LAST = ("Time", "Other numbers")  # sections that do not come first
IMAGES = 4  # of a stage that keeps sheets and no strips
HELD = (
    "One draw each, with the same seed at every step. Below: the verifier's overall score, then the "
    "second's where there is one."
)
GROUPS = (
    "Source, the group's edits with their rewards (the best in green), target. Hold the pointer over a "
    "reward for its parts."
)


def write_page(folder: str | Path, out: str | Path) -> Path:
    """Read a run's folder and write its page, atomically; the run may still be going on.

    Raises:
        DataError: the folder is not a run's.
        OutputError: the page cannot be written.
    """
    text, out = page(read_run(folder)), Path(out)
    partial = out.with_name(f".{out.name}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error}; name another file") from error
    return out


def page(run: RunRecord) -> str:
    """The page's HTML."""
    title = str(run.recipe.get("title") or run.folder.resolve().name)
    body = [_head(run, title), _tiles(run)]
    charts = sections(run)
    body += [_charts(name, drawn) for name, drawn in charts.items() if name not in LAST]
    body += [_time(run, charts.get("Time", [])), _walls(run)]
    body += [_charts(name, charts[name]) for name in LAST[1:] if name in charts]
    body += [_recipe(run), _made_with(run)]
    template = Template(TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=escape(title), body="\n".join(body), width=WIDTH, left=LEFT, right=RIGHT)


def _head(run: RunRecord, title: str) -> str:
    total = f" of {run.total:,}" if run.total else ""
    words = [
        f"{run.stage} run",
        f"step {run.step:,}{total}",
        f"seed {run.recipe.get('run', {}).get('seed', '?')}",
    ]
    if run.starts:
        words.append(f"begun {_when(run.starts[0])}")
    if len(run.starts) > 1:
        words.append(f"started {len(run.starts)} times")
    judges = run.starts[-1] if run.starts else {}
    for role in ("verifier", "second"):
        if judges.get(role):
            words.append(f"{'second verifier' if role == 'second' else role}: {judges[role]}")
    return f"<h1>{escape(title)}</h1><p class=soft>{escape(' · '.join(words))}</p>"


def _tiles(run: RunRecord) -> str:
    """The run in a few numbers: first and last tenth of its curves."""
    wanted: tuple[tuple[str, str, str], ...] = (
        ("train", "reward", "reward, first and last tenth"),
        ("validation", "overall", "held out, the verifier"),
        ("validation", "second", "held out, second verifier"),
        ("train", "entropy_visual", "visual entropy, nats"),
        ("train", "kl", "KL to reference, nats"),
        ("train", "zero_variance", "groups without variance"),
    )
    if run.stage != "grpo":
        wanted = (
            ("train", "loss", "loss, first and last tenth"),
            ("validation", "loss", "validation loss"),
            ("validation", "exact", "exact edits"),
            ("validation", "psnr", "PSNR, dB"),
        )
    tiles = []
    for split, name, label in wanted:
        found = ends(run.series(split, name))
        if found:
            tiles.append((f"{number(_short(found[0]))} → {number(_short(found[1]))}", label))
    seconds = sum(value for _, value in run.series("train", "seconds_per_step"))
    lines = len(run.log.get("train", ()))
    if seconds and lines:
        tiles.append((_duration(seconds * run.step / lines), "training, without held-out looks"))
    cells = "".join(f"<div class=tile><b>{escape(v)}</b><span>{escape(n)}</span></div>" for v, n in tiles)
    return f"<div class=tiles>{cells}</div>"


def _card(chart: Chart, draw: Callable[[Chart], str] = line_chart) -> str:
    entries = "".join(
        f'<span><i style="background:var(--c{s.colour % 8})"></i>{escape(s.name)}'
        f"<b>{number(s.points[-1][1])}</b></span>"
        for s in chart.series
    )
    return (
        f"<div class=card><h3>{escape(chart.title)}</h3><p class=note>{escape(chart.note)}</p>{draw(chart)}"
        f'<div class=legend>{entries}<span class="at"></span></div></div>'
    )


def _charts(name: str, charts: Sequence[Chart]) -> str:
    return f"<h2>{escape(name)}</h2><div class=charts>{''.join(map(_card, charts))}</div>"


def _time(run: RunRecord, others: Sequence[Chart]) -> str:
    """Where the time went: the whole run as one bar, and by step."""
    chart = time_split(run)
    if chart is None:
        return _charts("Time", others) if others else ""
    totals = {s.name: sum(v for _, v in run.series("train", f"seconds_{s.name}")) for s in chart.series}
    whole = sum(totals.values()) or 1.0
    bar = "".join(
        f'<div style="flex:{value:.6f};background:var(--c{s.colour})" title="{escape(s.name)}"></div>'
        for s, value in zip(chart.series, totals.values(), strict=True)
    )
    words = ", ".join(f"{name} {100 * value / whole:.0f}%" for name, value in totals.items())
    return (
        f"<h2>Where the time went</h2><p class=note>{escape(words)} of the steps' seconds.</p>"
        f"<div class=bar>{bar}</div><div class=charts>{_card(chart, area_chart)}"
        f"{''.join(map(_card, others))}</div>"
    )


def _walls(run: RunRecord) -> str:
    parts = []
    if held := heldout_wall(run.heldout):
        parts.append(_section("The same held-out prompts through time", HELD, held))
    if groups := group_wall(run.samples):
        parts.append(_section("Groups while training", GROUPS, groups))
    if not parts and run.pictures:
        images = "".join(
            f'<figure class=group><img alt="" src="{inline(path)}">'
            f"<figcaption>{escape(path.stem)}</figcaption></figure>"
            for path in _newest(run.pictures)
        )
        parts.append(_section("Images", "", f"<div class=images>{images}</div>"))
    return "".join(parts)


def _section(title: str, note: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2><p class=note>{escape(note)}</p>{content}"


def _newest(pictures: Sequence[Path]) -> list[Path]:
    return sorted(pictures, key=lambda path: path.stem.rpartition("-")[2])[-IMAGES:]


def _recipe(run: RunRecord) -> str:
    if not run.recipe_text:
        return ""
    return (
        "<h2>Recipe</h2><p class=note>As resolved, every default spelt out; it reads back as it is.</p>"
        f"<details><summary>recipe.toml</summary><pre>{escape(run.recipe_text)}</pre></details>"
    )


def _made_with(run: RunRecord) -> str:
    """Versions, hardware and the times that it was started."""
    if not run.starts:
        return "<h2>Made with</h2><p class=note>The folder has no run.json: an older version made it.</p>"
    last = run.starts[-1]
    machine = last.get("machine", {})
    hardware = [str(machine.get("cpu", "?")), f"{machine.get('cores', '?')} cores"]
    if "memory_gib" in machine:
        hardware.append(f"{machine['memory_gib']:g} GiB memory")
    hardware += map(str, machine.get("gpus", []))
    rows = [
        ("seed", str(run.recipe.get("run", {}).get("seed", "?"))),
        ("hardware", ", ".join(hardware)),
        ("ranks, device", f"{last.get('ranks', '?')} on {last.get('device', '?')}"),
        ("versions", ", ".join(f"{k} {v}" for k, v in last.get("versions", {}).items())),
        ("started", ", ".join(f"{_when(s)} at step {s.get('step', '?')}" for s in run.starts[-8:])),
    ]
    rows += [(role, str(last[role])) for role in ("verifier", "second") if last.get(role)]
    table = "".join(f"<tr><th>{escape(n)}</th><td>{escape(v)}</td></tr>" for n, v in rows)
    return f"<h2>Made with</h2><table class=facts>{table}</table>"


def _when(start: Line) -> str:
    """The time of a start as people read it: 2026-11-21 09:00 UTC."""
    try:
        at = datetime.fromisoformat(str(start["at"]))
    except (KeyError, ValueError):
        return str(start.get("at", "?"))
    return f"{at.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC"


def _short(value: float) -> float:
    """Three digits: a tile is read at a glance."""
    return float(f"{value:.3g}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
