"""An evaluation as one HTML page that needs nothing else: tables, comparison, images worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from earl.evaluation import tables
from earl.evaluation.cards import card, chosen_cards
from earl.evaluation.compare import compare_runs, comparison_notes, difference_text
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.papertable import NOTE, SystemRow, columns_of, published_rows, rows_of_ours
from earl.evaluation.results import RESULTS, compile_results, read_results
from earl.evaluation.scores import SHORT, scored_edits
from earl.files import write_text
from earl.sequence import NEGATIVE_INSTRUCTION

IMAGES = 400
"""Edits shown; of more, three quarters are the worst and one quarter the best."""

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_page(folder: Path, out: Path, *, other: Path | None = None, pictures: int = IMAGES) -> Path:
    """Write the page of an evaluation, also of one that is not at its end.

    Args:
        folder: of the evaluation.
        out: the HTML file; an older one is replaced.
        other: another evaluation of the same benchmark, compared task by task.
        pictures: edits shown at most, >= 1.

    Returns:
        `out`.

    Raises:
        DataError: no evaluation there, or its files are damaged.
        ConfigError: `other` is of another benchmark.
        OutputError: the page cannot be written.
    """
    run = EvaluationFolder(folder)
    results = compile_results(run)
    if (run.path / RESULTS).is_file():
        written = read_results(run.path)
        results |= {name: written.get(name, {}) for name in ("metrics", "not_measured", "versions")}
    second = EvaluationFolder(other) if other else None
    comparison = compare_runs(folder, other, across=True) if other else None
    runs = [results, *([compile_results(second)] if second else [])]
    sections = [
        _head(results),
        _tiles(results),
        _scores(results),
        _beside(runs, results["benchmark"]["column"]),
        _comparison(comparison) if comparison else "",
        _gallery(run, second, pictures),
    ]
    return write_text(Path(out).expanduser(), _whole(tables.title(results), sections))


def _whole(title: str, sections: Sequence[str]) -> str:
    style, script = (
        files("earl.pages").joinpath(f"templates/{name}") for name in ("style.css", "evaluation.js")
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style.read_text(encoding='utf-8')}</style></head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + f"\n<script>\n{script.read_text(encoding='utf-8')}</script>\n</body></html>\n"
    )


def _head(results: Mapping[str, Any]) -> str:
    editor, benchmark = results["editor"], results["benchmark"]
    said = [f"{results['all']['n']} edits", f"judged by {tables.judge_name(results)}"]
    if editor["kind"] == "predictions":
        said.append("images made elsewhere")
    else:
        how = "greedy" if editor.get("greedy") else f"temperature {editor.get('temperature', 1):g}"
        if "guidance" in editor:
            negative = editor["negative_instruction"] or NEGATIVE_INSTRUCTION
            how += f", guidance {editor['guidance']:g} away from {negative!r}"
        said.append(f"{how}, seed {editor.get('seed', 0)}")
        if editor.get("candidates", 1) > 1:
            said.append(f"best of {editor['candidates']} by the {editor['chosen_by']['kind']} verifier")
    if benchmark.get("draw"):
        said.append(f"{benchmark['draw']} rows drawn with seed {benchmark['draw_seed']}")
    return (
        f"<h1>{escape(editor['name'])} on {escape(benchmark['title'])}</h1>"
        f'<p class="faint">{escape(" · ".join(said))}</p>'
    )


def _tiles(results: Mapping[str, Any]) -> str:
    overall = results["all"]
    tiles = [
        (tables.number(overall, name), f"{SHORT[name]} {tables.interval(overall, name)}".strip())
        for name in ("overall", "semantic_consistency", "perceptual_quality", "exact")
        if name in results["scores"]
    ]
    tiles += [(f"{overall['judged']}", f"of {overall['n']} judged")]
    if overall["no_image"]:
        tiles.append((str(overall["no_image"]), "without an image, count as 0"))
    left_out = sum(overall["left_out"].values())
    if left_out:
        tiles.append((str(left_out), "without a score, in no mean"))
    cells = "".join(f'<div class="tile"><b>{b}</b><span>{escape(s)}</span></div>' for b, s in tiles)
    return f'<div class="tiles">{cells}</div>'


def _scores(results: Mapping[str, Any]) -> str:
    names = results["scores"]
    head = "".join(f"<th>{SHORT[name]}</th>" for name in names)
    rows, before = [], None
    for part, name, summary in tables.rows_of(results):
        kinds = " ".join(
            (["part"] if before not in (None, part) else []) + (["total"] if part == "all" else [])
        )
        before = part
        cells = "".join(_score_cell(summary, n) for n in names)
        counts = f"<td>{summary['n']}</td><td>{summary['judged']}</td>"
        rows.append(f'<tr class="{kinds}"><td>{escape(tables.label(part, name))}</td>{counts}{cells}</tr>')
    notes = "".join(f"<li>{escape(note)}</li>" for note in tables.notes(results))
    return (
        '<h2>Scores</h2><div class="scroll"><table class=scores><tr><th>family<th>n</th><th>judged</th>'
        f'{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div><ul class="notes">{notes}</ul>'
    )


def _score_cell(summary: Mapping[str, Any], name: str) -> str:
    if summary[name] is None:
        return "<td>-</td>"
    low, high = summary[f"{name}_interval"]
    hover = f' title="{tables.interval(summary, name)}"'
    if name != "overall":
        return f"<td{hover}>{summary[name]:.2f}</td>"
    shown = tables.interval(summary, name)
    left, wide, at = low * 10, (high - low) * 10 if shown else 0, summary[name] * 10
    return (
        f"<td{hover}>{summary[name]:.2f} <small class='interval'>{shown}</small>"
        f'<span class="range"><i style="left:{left:.1f}%;width:{wide:.1f}%"></i>'
        f'<u style="left:{at:.1f}%"></u></span></td>'
    )


def _beside(runs: Sequence[Mapping[str, Any]], column: str) -> str:
    if not column:
        return (
            '<h2>Beside the paper</h2><p class="faint">The paper has no results on this benchmark: '
            "there is nothing published to set beside it.</p>"
        )
    ours = _ours(runs)
    rows = [*ours, *published_rows()]
    columns = columns_of(rows)
    head = "".join(f"<th{_here(c, column)}>{escape(c)}</th>" for c in columns)
    body = []
    for row in rows:
        cells = "".join(f"<td{_here(c, column)}>{_cell(row, c)}</td>" for c in columns)
        mean = "-" if row.mean is None else f"{row.mean:.2f}"
        tag = ' <span class="tag">published</span>' if row.published else ""
        kind = "" if row.published else "ours"
        body.append(
            f'<tr class="{kind}"><td>{escape(row.name)}{tag}</td>{cells}<td>{mean}</td>'
            f'<td class="left">{escape(row.judge)}</td></tr>'
        )
    return (
        '<h2>Beside the paper</h2><div class="scroll"><table class=scores><tr><th>model</th>'
        f'{head}<th>mean</th><th class="left">judge</th></tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        f'<ul class="notes"><li>{escape(NOTE)}</li></ul>'
    )


def _ours(runs: Sequence[Mapping[str, Any]]) -> list[SystemRow]:
    """Rows of the runs; each by itself, since two may have one name."""
    return [row for run in runs for row in rows_of_ours([run])]


def _here(name: str, column: str) -> str:
    return ' class="here"' if name == column else ""


def _cell(row: SystemRow, column: str) -> str:
    value, bounds = row.means.get(column), row.intervals.get(column)
    if value is None:
        return "-"
    return f"{value:.2f}" + (f" <small>[{bounds[0]:.2f}, {bounds[1]:.2f}]</small>" if bounds else "")


def _comparison(comparison: Mapping[str, Any]) -> str:
    found = comparison["all"]
    names = f"A is {escape(comparison['a'])}; B is {escape(comparison['b'])}."
    total = max(1, found["compared"])
    shares = "".join(
        f'<div class="{kind}" style="width:{100 * found[kind] / total:.2f}%">{words} {found[kind]}</div>'
        for kind, words in (("win", "A wins"), ("tie", "tie"), ("loss", "B wins"))
        if found[kind]
    )
    rows = [
        (tables.label(part, name), part, entry)
        for part in ("families", "kinds", "groups")
        for name, entry in comparison[part].items()
        if len(comparison[part]) > 1 or part == "families"
    ]
    body, before = [], None
    for label, part, entry in [*rows, ("all", "all", found)]:
        kinds = " ".join(
            (["part"] if before not in (None, part) else []) + (["total"] if part == "all" else [])
        )
        before = part
        p = "-" if entry["p_sign"] is None else f"{max(entry['p_sign'], entry['p_bootstrap']):.3f}"
        counts = "".join(f"<td>{entry[name]}</td>" for name in ("compared", "win", "tie", "loss"))
        cells = f"<td>{escape(label)}</td>{counts}<td>{difference_text(entry)}</td><td>{p}</td>"
        body.append(f'<tr class="{kinds}">{cells}</tr>')
    notes = "".join(f"<li>{escape(note)}</li>" for note in comparison_notes(comparison))
    return (
        f'<h2>Compared, task by task</h2><p>{names}</p><div class="split">{shares}</div>'
        '<div class="scroll"><table class=scores><tr><th>family<th>n</th><th>A wins</th><th>ties</th>'
        f"<th>B wins</th><th>{SHORT[comparison['score']]}, A - B</th><th>p</th></tr></thead>"
        f'<tbody>{"".join(body)}</tbody></table></div><ul class="notes">{notes}</ul>'
    )


def _gallery(run: EvaluationFolder, second: EvaluationFolder | None, pictures: int) -> str:
    edits = scored_edits(run)
    others = {edit.key: edit for edit in scored_edits(second)} if second else {}
    chosen = chosen_cards(edits, pictures)
    families = sorted({edit.edit["family"] for edit in chosen if edit.edit["family"]})
    options = "".join(f"<option>{escape(family)}</option>" for family in families)
    orders = [("worst", "worst first"), ("best", "best first"), ("given", "in the benchmark's order")]
    shows = [
        ("all", "all"),
        ("judged", "judged"),
        ("unjudged", "without a score"),
        ("noimage", "without an image"),
    ]
    if second:
        orders += [("lost", "B's largest gains first"), ("won", "A's largest gains first")]
        shows += [("win", "A wins"), ("tie", "ties"), ("loss", "B wins")]
    left = (
        f'<p class="faint">{len(chosen)} of {len(edits)} edits are shown: the worst and the best.</p>'
        if len(chosen) < len(edits)
        else ""
    )
    cards = "\n".join(card(run, edit, second, others.get(edit.key)) for edit in chosen)
    wide = ' class="wide"' if second else ""
    return (
        f'<h2>Images</h2>{left}<div class="tools"><label>family <select id="family">'
        f'<option value="">all</option>{options}</select></label>'
        f'<label>show <select id="show">{_options(shows)}</select></label>'
        f'<label>order <select id="order">{_options(orders)}</select></label><span id="count"></span></div>'
        f'<div id="cards"{wide}>\n{cards}\n</div>'
    )


def _options(pairs: Sequence[tuple[str, str]]) -> str:
    return "".join(f'<option value="{value}">{escape(words)}</option>' for value, words in pairs)
