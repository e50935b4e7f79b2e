"""Results as text, Markdown, LaTeX and CSV: one row a family, kind and group, then all.

A mean stands with its 95% interval; "-" stands where nothing was judged.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from earl.evaluation.metrics import DIRECTION
from earl.evaluation.scores import REASONS, SHORT

Results = Mapping[str, Any]
Row = tuple[str, str, Mapping[str, Any]]  # part, name, summary

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    sign: f"\\{sign}" for sign in "&%$#_{}"
}


def rows_of(results: Results) -> list[Row]:
    """Families, kinds, groups, all; a part with the one name that "all" has already is left out."""
    rows: list[Row] = []
    for part in ("families", "kinds", "groups"):
        members = results[part]
        if len(members) > 1 or (members and part == "families"):
            rows += [(part, name, summary) for name, summary in members.items()]
    return [*rows, ("all", "all", results["all"])]


def label(part: str, name: str) -> str:
    """A row's first cell."""
    return f"all {name}" if part in ("kinds", "groups") else name


def number(summary: Mapping[str, Any], name: str) -> str:
    """A mean, two decimals."""
    return "-" if summary[name] is None else f"{summary[name]:.2f}"


def interval(summary: Mapping[str, Any], name: str) -> str:
    """A mean's interval, two decimals; "" where there is none to tell (one edit, or none)."""
    bounds = summary[f"{name}_interval"]
    return "" if bounds is None or summary["judged"] < 2 else f"[{bounds[0]:.2f}, {bounds[1]:.2f}]"


def text(results: Results) -> str:
    """For the terminal."""
    names = results["scores"]
    rows = rows_of(results)
    wide = max([len(label(part, name)) for part, name, _ in rows] + [6])
    heads = [SHORT[name] for name in names]
    widths = [20 if name == "overall" else max(7, len(head)) for name, head in zip(names, heads, strict=True)]
    head = f"{'family':<{wide}} {'n':>5} {'judged':>6}  "
    head += "  ".join(f"{h:<{w}}" for h, w in zip(heads, widths, strict=True))
    lines = [head.rstrip(), "-" * len(head)]
    before = rows[0][0]
    for part, name, summary in rows:
        if part != before:
            lines.append("-" * len(head))
            before = part
        cells = [
            f"{number(summary, n)} {interval(summary, n)}" if n == "overall" else number(summary, n)
            for n in names
        ]
        line = f"{label(part, name):<{wide}} {summary['n']:>5} {summary['judged']:>6}  "
        lines.append((line + "  ".join(f"{c:<{w}}" for c, w in zip(cells, widths, strict=True))).rstrip())
    return "\n".join([*lines, *notes(results)])


def notes(results: Results) -> list[str]:
    """What a reader of the table must know, a sentence each."""
    found = ["scores 0-10, 10 is best in all; brackets: 95% bootstrap intervals over tasks"]
    if "exact" in results["scores"]:
        found.append("exact: rate 0-1 of edits that are exactly right")
    overall = results["all"]
    if overall["no_image"]:
        found.append(f"edits without an image: {overall['no_image']}; they count as 0")
    for reason, count in overall["left_out"].items():
        found.append(f"in no mean: {count} of {overall['n']}, {REASONS[reason]}")
    if strange := results.get("unknown_families"):
        found.append(
            f"unknown to this version, so families of their own without a kind: {', '.join(strange)}"
        )
    if not results["complete"]:
        found.append("the benchmark was not edited to its end: these are its first tasks")
    for name, measured in results.get("metrics", {}).items():
        bounds = measured["interval"]
        shown = f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else ""
        found.append(
            f"{name.upper()} to the target {measured['mean']:.3f}{shown}, {measured['n']} images "
            f"({DIRECTION[name]})"
        )
    return [*found, *results.get("not_measured", {}).values()]


def markdown(results: Results) -> str:
    """A table with a heading and notes."""
    names = results["scores"]
    head = ["family", "n", "judged", *(SHORT[name] for name in names)]
    lines = [f"# {title(results)}", "", bar(head), bar(["---", *["---:"] * (len(head) - 1)])]
    for part, name, summary in rows_of(results):
        cells = [f"{number(summary, n)} {interval(summary, n)}".strip() for n in names]
        lines.append(bar([label(part, name), summary["n"], summary["judged"], *cells]))
    return "\n".join([*lines, "", *(f"- {note}" for note in notes(results)), ""])


def latex(results: Results) -> str:
    """A booktabs table; intervals as ± half their width."""
    names = results["scores"]
    lines = [
        f"% {title(results)}".replace("\n", " "),
        *(f"% {note}".replace("\n", " ") for note in notes(results)),
        rf"\begin{{tabular}}{{lr{'r' * len(names)}}}",
        r"\toprule",
        " & ".join(["", "n", *(SHORT[name] for name in names)]) + r" \\",
        r"\midrule",
    ]
    before = rows_of(results)[0][0]
    for part, name, summary in rows_of(results):
        if part != before:
            lines.append(r"\midrule")
            before = part
        cells = [_plus_minus(summary, n) for n in names]
        lines.append(" & ".join([escaped(label(part, name)), str(summary["n"]), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def csv_text(results: Results) -> str:
    """A row a part, every number in a column of its own."""
    names = results["scores"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    bounds = [f"{name}_{end}" for name in names for end in ("", "low", "high")]
    writer.writerow(
        ["benchmark", "editor", "part", "name", "n", "judged", "no_image", "left_out"]
        + [name.rstrip("_") for name in bounds]
    )
    for part, name, summary in rows_of(results):
        cells: list[Any] = []
        for score in names:
            cells += [summary[score], *(summary[f"{score}_interval"] or (None, None))]
        counts = [summary["n"], summary["judged"], summary["no_image"], sum(summary["left_out"].values())]
        writer.writerow(
            [results["benchmark"]["name"], results["editor"]["name"], part, name, *counts, *cells]
        )
    return buffer.getvalue()


def title(results: Results) -> str:
    """Who was evaluated on what, and by whom."""
    best = results["editor"].get("candidates", 1)
    chosen = f", best of {best}" if best and best > 1 else ""
    return f"{results['editor']['name']}{chosen} on {results['benchmark']['title']}, judged by " + judge_name(
        results
    )


def judge_name(results: Results) -> str:
    """The verifier in a few words."""
    verifier = results.get("verifier")
    if not verifier:
        return "nobody yet"
    model = verifier.get("model")
    if not model:
        return f"the {verifier['kind']} verifier"
    return f"{model} against the target" if verifier["kind"] == "reference" else str(model)


def _plus_minus(summary: Mapping[str, Any], name: str) -> str:
    bounds = summary[f"{name}_interval"]
    if bounds is None:
        return "--"
    return rf"{summary[name]:.2f} {{\scriptsize$\pm${(bounds[1] - bounds[0]) / 2:.2f}}}"


def escaped(words: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in words)


def bar(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"
