"""The paper's tables by number, with rows of ours above the published ones."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from earl.cli import main
from earl.errors import ConfigError
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.paper_tables import beside_paper
from earl.evaluation.published import COLUMNS, published_table, published_tables
from earl.evaluation.results import current_results
from earl.records import Estimate

from .evaluation_parts import run


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """One evaluation, to be changed into others."""
    root = tmp_path_factory.mktemp("ours")
    run(root)
    return current_results(EvaluationFolder(root / "run"))


def of(results, column, *, overall=4.0, families=(), metrics=None):
    """The same evaluation, of another benchmark with figures of its own."""

    def summary(mean):
        scores = {**results.all.scores, "overall": Estimate(mean, mean, mean, 6)}
        return replace(results.all, scores=scores)

    return replace(
        results,
        benchmark={**results.benchmark, "column": column},
        all=summary(overall),
        families={name: summary(mean) for name, mean in families},
        kinds={},
        metrics={name: Estimate(value, value, value, 6) for name, value in (metrics or {}).items()},
    )


def test_every_table_has_a_number_per_column():
    tables = published_tables()
    assert list(tables) == list(range(2, 18))
    for table in tables.values():
        assert all(len(row) == len(table.columns) + 1 for row in table.rows), table.number
        assert not table.keys or len(table.keys) == len(table.columns)
    assert tables[7].rows[0] == ("SFT S, edit success", 6.1, 3.5, 3.0, 2.6, 3.2, 3.7, 3.7)
    assert tables[4].rows[1][-1] == 0.5288 and tables[10].rows[1][1:3] == (35.0, 23.71)
    assert tables[13].rows == (("SFT S", 3.81), ("SFT S → RL S+C", 4.66))


@pytest.mark.parametrize("number", [2, 3, 6, 7, 11])
def test_published_means_are_of_their_columns(number):
    for row in published_table(number).rows:
        assert sum(row[1:-1]) / 6 == pytest.approx(row[-1], abs=0.06 if number == 7 else 0.011), row[0]


def first_row(table):
    assert table.rows[0].kind == "ours"
    return [cell.mean if isinstance(cell, Estimate) else cell for cell in table.rows[0].cells]


def test_overall_scores_and_parts(ours):
    runs = [of(ours, column, overall=4 + place) for place, column in enumerate(COLUMNS)]
    shown = beside_paper(published_table(6), runs)
    assert first_row(shown)[:8] == ["inverter", 6.0, 7.0, 4.0, 9.0, 8.0, 5.0, 6.5]
    assert [row.kind for row in shown.rows] == ["ours", "", ""]
    parts = beside_paper(published_table(7), runs)
    assert [row.cells[0] for row in parts.rows[:5]] == [
        f"inverter, {name}"
        for name in ("edit success", "over-editing", "naturalness", "artifacts", "overall")
    ]
    assert len(parts.rows) == 15
    with pytest.raises(ConfigError, match="two of the runs"):
        beside_paper(published_table(2), [runs[0], runs[0]])


def test_families_of_one_benchmark(ours):
    runs = [of(ours, "EmuEdit", families=[("Add", 3.0), ("texture", 5.0)]), of(ours, "VisMin")]
    cells = first_row(beside_paper(published_table(15), runs))
    assert cells[:9] == ["inverter", 3.0, None, None, None, 5.0, None, None, None]
    assert not [row for row in beside_paper(published_table(16), runs).rows if row.kind == "ours"]


def test_metrics_of_one_and_of_three_benchmarks(ours):
    three = [
        of(ours, name, metrics={"clip": 0.8 + i / 10}) for i, name in enumerate(("MagicBrush", "VisMin"))
    ]
    assert not [row for row in beside_paper(published_table(8), three).rows if row.kind == "ours"]
    three.append(of(ours, "OmniEdit", metrics={"clip": 0.7}))
    assert first_row(beside_paper(published_table(8), three))[1] == pytest.approx(0.8)
    pie = of(ours, "PIE-Bench", metrics={"structure": 0.0351, "mse_kept": 0.0077, "clip_text": 24.5})
    cells = first_row(beside_paper(published_table(10), [pie]))
    assert cells[1:8] == pytest.approx([35.1, None, None, 77.0, None, 24.5, None])


def test_the_command(ours, tmp_path, capsys):
    assert main(["evaluate", "table", "--paper", "14"]) == 0
    shown = capsys.readouterr().out
    assert "6.95" in shown and "gpt-4o-mini-2024-07-18" in shown and "table 14 of arXiv 2508.01119" in shown
    run(tmp_path)
    out = tmp_path / "t"
    assert main(["evaluate", "table", str(tmp_path / "run"), "--paper", "7", "-o", str(out)]) == 0
    entries = list(csv.DictReader(io.StringIO((tmp_path / "t.csv").read_text())))
    assert len(entries) == 10, "its benchmark is none of the six"
    assert main(["evaluate", "table"]) == 2
    assert "which evaluations?" in capsys.readouterr().err
    assert main(["evaluate", "table", "--paper", "1"]) == 2


def test_figures_of_people(tmp_path, capsys):
    def part(value):
        return {"spearman": {"overall": value and {"mean": value}, "semantic_consistency": None}}

    subsets = {name: part(0.4) for name in ("magicbrush", "Something", "ag", "epic", "whatsup")}
    figures = {"all": part(0.4), "subsets": subsets, "verifier": {"kind": "judge", "model": "mine"}}
    (tmp_path / "agree.json").write_text(json.dumps(figures))
    assert main(["evaluate", "table", str(tmp_path / "agree.json"), "--paper", "5"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "mine" in line)
    assert line.split()[:8] == ["overall", *["0.40"] * 6, "mine"]
    (tmp_path / "agree.json").write_text("{}")
    assert main(["evaluate", "table", str(tmp_path / "agree.json"), "--paper", "5"]) == 2
    assert "earl verifier agree --json" in capsys.readouterr().err
