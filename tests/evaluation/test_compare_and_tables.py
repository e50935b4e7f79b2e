"""Two runs compared, results as tables, the paper's rows, and the page."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
from dataclasses import replace

import pytest

from earl.cli import main
from earl.config import EvaluationSettings
from earl.errors import ConfigError, DataError
from earl.evaluation.compare import compare_runs, comparison_text
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.page import chosen_edits, write_page
from earl.evaluation.published import COLUMNS, later_models, published_models
from earl.evaluation.records import to_json
from earl.evaluation.results import compile_results, read_results
from earl.evaluation.run import Judging, evaluate
from earl.evaluation.scores import scored_edits
from earl.evaluation.tables import paper_csv_table, paper_table, published_rows, score_table, system_rows
from earl.records import Estimate

from .evaluation_parts import Brightness, Inverter, own_benchmark, run

EDITS = EvaluationSettings(until="edits")


class Dimmer(Inverter):
    """Half as bright as the inverter, for all tasks but the first."""

    def __init__(self, **more):
        super().__init__(**more)
        self.name = "dimmer"

    def _one(self, task, image):
        edited = super()._one(task, image)
        picture = edited.candidates[0].image
        if task.number == 0 or picture is None:
            return edited
        from dataclasses import replace

        return replace(
            edited, candidates=(replace(edited.candidates[0], image=picture.point(lambda v: v // 2)),)
        )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The inverter and the dimmer on the same 12 tasks; each has one task without a score."""
    root = tmp_path_factory.mktemp("two")
    run(root, "a", verifier=Brightness(fails=["invert 3"]), count=12)
    run(root, "b", editor=Dimmer(no_image=["t4"]), verifier=Brightness(fails=["invert 5"]), count=12)
    return root / "a", root / "b"


def test_win_tie_loss_by_hand(two):
    found = compare_runs(*two)
    everything = found.all
    assert (everything.n, everything.compared) == (12, 10)  # 3 and 5 have no score in one
    assert (everything.win, everything.tie, everything.loss) == (9, 1, 0)
    assert everything.p_sign == pytest.approx(2 / 512, abs=1e-6)
    assert everything.significant
    bright = [(255 - 20 * i) / 25.5 for i in range(12)]
    half = [int(255 - 20 * i) // 2 / 25.5 for i in range(12)]
    gaps = [0.0]
    for i in (1, 2, 4, 6, 7, 8, 9, 10, 11):
        other = 0.0 if i == 4 else math.sqrt(min(half[i], 10) * 9)
        gaps.append(math.sqrt(min(bright[i], 9.9999) * 9) - other)
    difference = everything.difference
    assert difference.mean == pytest.approx(sum(gaps) / 10, abs=2e-3)
    assert 0 < difference.low < difference.mean < difference.high
    assert found.groups["simple"].n + found.groups["complex"].n == 12
    shown = comparison_text(found)
    assert "2 of 12 tasks have no score" in shown and "inverter is better" in shown


def test_the_other_way_round_is_the_mirror(two):
    there, back = compare_runs(*two).all, compare_runs(*reversed(two)).all
    assert (there.win, there.loss) == (back.loss, back.win)
    assert there.difference.mean == pytest.approx(-back.difference.mean)
    assert there.p_sign == back.p_sign


def test_a_run_against_itself_is_a_tie(two):
    found = compare_runs(two[0], two[0])
    assert (found.all.win, found.all.loss, found.all.difference.mean) == (0, 0, 0)
    assert not found.all.significant
    assert "may be chance" in comparison_text(found)


def test_two_runs_of_one_model_are_told_apart(two, tmp_path):
    shutil.copytree(two[0], tmp_path / "warm")
    plan = json.loads((tmp_path / "warm" / "evaluation.json").read_text())
    plan["editor"] |= {"greedy": True}
    (tmp_path / "warm" / "evaluation.json").write_text(json.dumps(plan))
    shown = comparison_text(compare_runs(tmp_path / "warm", two[0]))
    assert "A: inverter, greedy\n" in shown and "B: inverter, temperature 1\n" in shown
    shutil.copytree(two[0], tmp_path / "again")
    found = compare_runs(tmp_path / "again", two[0])
    assert (found.a, found.b) == ("inverter in again", "inverter in a")
    assert compare_runs(*two).a == "inverter", "where names differ they are enough"


def test_a_difference_has_no_minus_zero():
    assert Estimate(-0.001, -0.004, 0.3, 3).text(signed=True) == "+0.00 [+0.00, +0.30]"
    assert Estimate(-0.001, -0.004, 0.3, 1).text(signed=True) == "+0.00"
    assert Estimate(-0.006, -0.004, 0.3, 3).text(signed=True) == "-0.01 [+0.00, +0.30]"


def test_a_tie_can_be_wide_and_another_score_compared(two):
    assert compare_runs(*two, tie=10).all.tie == 10
    assert compare_runs(*two, score="artifacts").all.win == 1  # where the dimmer made no image
    with pytest.raises(ConfigError, match="exact"):
        compare_runs(*two, score="exact")


def test_what_cannot_be_compared_is_refused(two, tmp_path):
    evaluate(tmp_path / "c", own_benchmark(two[0].parent / "data", 12), Inverter(), None, EDITS)
    with pytest.raises(DataError, match="not judged yet"):
        compare_runs(two[0], tmp_path / "c")
    other = Judging(Brightness(), {"kind": "judge", "model": "other"})
    evaluate(tmp_path / "c", own_benchmark(two[0].parent / "data", 12), Inverter(), other)
    with pytest.raises(ConfigError, match="--across-verifiers"):
        compare_runs(two[0], tmp_path / "c")
    assert "may be theirs" in comparison_text(compare_runs(two[0], tmp_path / "c", across=True))
    with pytest.raises(DataError, match="no evaluation"):
        compare_runs(two[0], tmp_path)
    plan = json.loads((tmp_path / "c" / "evaluation.json").read_text())
    plan["benchmark"]["name"] = "elsewhere"
    (tmp_path / "c" / "evaluation.json").write_text(json.dumps(plan))
    with pytest.raises(ConfigError, match="elsewhere"):
        compare_runs(two[0], tmp_path / "c")


def test_other_data_under_the_same_names_is_noticed(two, tmp_path):
    data = two[0].parent / "data"
    text = (data / "metadata.jsonl").read_text()
    other = tmp_path / "data"
    other.mkdir()
    for path in data.glob("*.png"):
        (other / path.name).write_bytes(path.read_bytes())
    (other / "metadata.jsonl").write_text(text.replace("invert 2", "do not invert 2"))
    from earl.evaluation.benchmark import open_benchmark

    def evaluated(name):
        judging = Judging(Brightness(), {"kind": "judge", "model": "brightness"})
        evaluate(tmp_path / name, open_benchmark(str(other)), Inverter(), judging)
        return tmp_path / name

    with pytest.raises(DataError, match="different data"):
        compare_runs(two[0], evaluated("c"))
    (other / "metadata.jsonl").write_text(text)
    (other / "0.png").write_bytes((other / "9.png").read_bytes())  # the same words for another image
    assert "the two runs read other data" in comparison_text(compare_runs(two[0], evaluated("d")))
    assert "other data" not in comparison_text(compare_runs(*two))


def test_a_table_of_the_paper_says_what_has_no_score(two, tmp_path, capsys):
    """A mean of the first few edits must not stand beside published ones like any other."""
    shutil.copytree(two[0], tmp_path / "cut")
    lines = (two[0] / "verdicts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "cut" / "verdicts.jsonl").write_text("".join(lines[:4]))
    (tmp_path / "cut" / "edits.done").unlink()
    assert main(["evaluate", "table", str(tmp_path / "cut"), "--ours-only", "-o", str(tmp_path / "t")]) == 0
    said = r"inverter on data: 9 of 12 edits have no score and are in no mean, and there are tasks that were"
    assert re.search(said, capsys.readouterr().out) and said in (tmp_path / "t.md").read_text()
    assert main(["evaluate", "table", str(two[1]), "--ours-only"]) == 0
    assert "dimmer on data: 1 of 12 edits have no score and are in no mean\n" in capsys.readouterr().out


def test_tables_say_the_same_in_every_form(two):
    results = read_results(two[0])
    assert to_json(results) == json.loads((two[0] / "results.json").read_text())
    overall = results.all.overall
    table = score_table(results)
    for form in (table.text(), table.markdown(), table.latex()):
        assert any(f"{overall.mean:.2f}" in line and "all" in line for line in form.splitlines())
    rows = list(csv.DictReader(io.StringIO((two[0] / "table.csv").read_text())))
    everything = next(row for row in rows if row["part"] == "all")
    assert float(everything["overall"]) == overall.mean
    assert [float(everything[f"overall_{end}"]) for end in ("low", "high")] == [overall.low, overall.high]
    assert {row["name"] for row in rows} == {"even", "odd", "simple", "complex", "all"}
    assert everything["left_out"] == "1"


def test_latex_escapes_and_balances(two):
    results = read_results(two[0])
    results.families["50% & more_"] = results.families.pop("even")
    table = score_table(results).latex()
    assert r"50\% \& more\_" in table
    body = [line for line in table.splitlines() if line.endswith(r"\\")]
    assert len({len(re.findall(r"(?<!\\)&", line)) for line in body}) == 1


def test_the_published_rows_are_the_papers():
    published = published_models()
    assert len(published) == 23
    earl = next(row for row in published if row.model.startswith("EARL"))
    assert (earl.scores["OmniEdit"], earl.scores["I2EBench"], earl.mean) == (6.39, 4.19, 4.80)
    for row in published:  # the means are of the six columns, rounded
        assert sum(row.scores.values()) / 6 == pytest.approx(row.mean, abs=0.011), row.model


def test_later_rows_are_on_our_scale():
    step = [row.scores for row in later_models() if row.model.startswith("Step1X-Edit")]
    assert {"GEdit-Bench-EN": 6.97, "GEdit-Bench-CN": 6.50} in step
    assert {"ImgEdit-Bench": 6.12} in step and {"RISEBench": 0.19} in step
    assert all(
        0 <= score <= 10 and row.mean is None for row in later_models() for score in row.scores.values()
    )


def test_ours_beside_the_papers(two):
    results = compile_results(EvaluationFolder(two[0]))
    runs = []
    for place, column in enumerate(COLUMNS):
        mean = replace(results.all.overall, mean=4.0 + place / 10)
        summary = replace(results.all, scores={**results.all.scores, "overall": mean})
        benchmark = {**results.benchmark, "column": column}
        runs.append(replace(results, benchmark=benchmark, all=summary))
    ours = system_rows(runs)
    assert len(ours) == 1 and ours[0].mean == pytest.approx(4.25)
    assert system_rows(runs[:5])[0].mean is None  # a mean of five is not the paper's mean
    rows = [*ours, *published_rows()]
    table = paper_table(rows)
    for shown in (table.text(), table.markdown(), table.latex()):
        assert "4.25" in shown and "6.39" in shown and shown.count("published") >= 23
    entries = list(csv.DictReader(io.StringIO(paper_csv_table(rows).csv())))
    assert len(entries) == 6 * 24
    assert {entry["published"] for entry in entries if entry["model"] == "inverter"} == {"0"}
    assert to_json(rows)[0]["scores"]["EmuEdit"]["mean"] == 4.1
    assert to_json(rows)[5]["mean"] == 4.70  # as published, not computed again from rounded figures
    with pytest.raises(ConfigError, match="--name"):
        system_rows([runs[0], runs[0]])


def test_the_page_is_whole_and_safe(two, tmp_path):
    data = two[0].parent / "data"
    text = (data / "metadata.jsonl").read_text()
    evil = tmp_path / "data"
    evil.mkdir()
    for path in data.glob("*.png"):
        (evil / path.name).write_bytes(path.read_bytes())
    (evil / "metadata.jsonl").write_text(text.replace("invert 2", "<script>alert(1)</script>"))
    from earl.evaluation.benchmark import open_benchmark

    verifier = Brightness(fails=["invert 3"])
    judge = Judging(verifier, {"kind": "judge", "model": "<b>"})
    evaluate(tmp_path / "run", open_benchmark(str(evil)), Inverter(no_image=["t1"]), judge)
    page = write_page(tmp_path / "run", tmp_path / "page.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page and "judged by &lt;b&gt;" in page
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)  # nothing is fetched
    assert page.count('<article class="card"') == 12
    scores = re.findall(r'data-score="([\d.]*)"', page)
    judged = [float(score) for score in scores if score]
    assert judged == sorted(judged) and judged[0] == 0.0  # worst first
    assert scores[-1] == ""  # without a score, last
    assert "the verifier&#39;s answer could not be used: cannot tell" in page
    assert "no image: cut off" in page


def test_the_page_compares(two, tmp_path):
    page = write_page(two[0], tmp_path / "page.html", other=two[1]).read_text()
    assert "A wins 9" in page and "tie 1" in page and "B wins" in page
    assert re.search(r'class="score[a-z ]*">A \d+\.\d\d<', page), "whose score it is"
    assert page.count('data-gap=""') == 2
    assert "inverter is better" in page


def test_a_page_of_an_unfinished_evaluation(two, tmp_path):
    benchmark = own_benchmark(two[0].parent / "data", 12)
    evaluate(tmp_path / "run", benchmark, Inverter(), None, EDITS)
    page = write_page(tmp_path / "run", tmp_path / "page.html").read_text()
    assert "in no mean: 12 of 12, not judged yet" in page
    with pytest.raises(DataError, match="goes on where it stopped"):
        read_results(tmp_path / "run")


def test_of_many_edits_the_worst_and_the_best_are_shown(two):
    edits = scored_edits(EvaluationFolder(two[0]))
    chosen = chosen_edits(edits, 8)
    judged = sorted(edit.score("overall") for edit in edits if edit.counts)
    shown = [edit.score("overall") for edit in chosen if edit.counts]
    assert len(chosen) == 8 and sum(not edit.counts for edit in chosen) == 1
    assert shown == judged[:6] + judged[-1:]
    assert len(chosen_edits(edits, 100)) == 12
