"""`earl verifier agree`: ratings are checked, verdicts cached, correlations told by subset."""

from __future__ import annotations

import csv
import json
import math

import pytest
from PIL import Image

from earl.cli import main
from earl.errors import DataError, OutputError, VerifierError
from earl.evaluation.agreement import agreement, agreement_table, judge_ratings, read_ratings

from .evaluation_parts import Brightness

pytest.importorskip("scipy")
IDENTITY = {"kind": "judge", "model": "brightness"}


def ratings(folder, rows, columns=("source", "edited", "instruction", "rating", "subset")):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), "red").save(folder / "source.png")
    for level in range(12):
        Image.new("RGB", (16, 16), (level * 20,) * 3).save(folder / f"{level}.png")
    with (folder / "ratings.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return folder / "ratings.csv"


def row(level, rating, subset="one", instruction="brighter, please"):
    return ["source.png", f"{level}.png", instruction, rating, subset]


def table(tmp_path):
    """Subset one: people agree with brightness. Subset two: they see it the other way."""
    rows = [row(level, level / 2, "one") for level in range(1, 7)]
    rows += [row(level, -level, "two", "darker") for level in range(1, 7)]
    return ratings(tmp_path, rows)


def judge(path, verifier, **more):
    edits = read_ratings(path)
    return edits, judge_ratings(edits, verifier, path.with_suffix(".verdicts.jsonl"), IDENTITY, **more)


def test_agreement_by_subset(tmp_path):
    found = agreement(*judge(table(tmp_path), Brightness()), resamples=100)
    one, two = found.subsets["one"], found.subsets["two"]
    assert (one.spearman["overall"].mean, one.kendall["overall"].mean) == pytest.approx((1, 1))
    assert (two.spearman["overall"].mean, two.kendall["overall"].mean) == pytest.approx((-1, -1))
    assert found.all.compared == 12
    overall = found.all.spearman["overall"]
    assert overall.low < overall.mean < overall.high
    assert found.all.spearman["naturalness"] is None  # it never varies
    shown = agreement_table(found).text()
    assert "1.00 [1.00, 1.00]" in shown and "-1.00" in shown
    assert "-: fewer than 3 edits" in shown  # nor does perceptual quality
    assert "fewer than 3" not in agreement_table(found, scores=("overall",)).text()


def test_ratings_of_one_edit_are_averaged(tmp_path):
    path = ratings(tmp_path, [row(3, 1), row(3, 2), row(3, 6), row(4, 5)])
    edits = read_ratings(path)
    assert [edit.rating for edit in edits] == [3.0, 5.0]
    verifier = Brightness()
    judge(path, verifier)
    assert len(verifier.asked) == 2


def test_a_cache_that_cannot_be_written_is_refused_before_a_question(tmp_path):
    path, asked = table(tmp_path), Brightness()
    path.with_suffix(".verdicts.jsonl").mkdir()
    with pytest.raises(OutputError, match="is a folder; name a file in it"):
        judge(path, asked)
    assert not asked.asked


def test_verdicts_are_asked_for_once(tmp_path):
    path = table(tmp_path)
    gone = Brightness(fails=["darker"], status="unreachable")
    edits, first = judge(path, gone, window=1)
    assert sum(verdict.ok for verdict in first.values()) == 6
    again = Brightness()
    _, second = judge(path, again)
    assert len(again.asked) == 6  # those that nobody answered
    assert all(verdict.ok for verdict in second.values())
    other = Brightness()
    judge_ratings(edits, other, path.with_suffix(".verdicts.jsonl"), {"kind": "judge", "model": "other"})
    assert len(other.asked) == 12  # another verifier's verdicts are its own


def test_a_verifier_that_is_gone_stops(tmp_path):
    path = ratings(tmp_path, [row(level, 1) for level in range(12)])
    with pytest.raises(VerifierError, match="run the same command again"):
        judge(path, Brightness(fails=["brighter, please"], status="unreachable"))


def test_what_has_no_verdict_is_counted(tmp_path):
    found = agreement(*judge(table(tmp_path), Brightness(fails=["darker"])), resamples=100)
    assert found.all.left_out == {"unusable": 6}
    assert found.all.spearman["overall"].mean == pytest.approx(1)
    assert found.subsets["two"].spearman["overall"] is None
    assert "6 edits have no verdict (unusable)" in agreement_table(found).text()


@pytest.mark.parametrize(
    ("rows", "columns", "what"),
    [
        ([], ("source", "edited", "instruction", "rating", "subset"), "no ratings"),
        ([["a"]], ("source",), "edited, instruction, rating"),
        ([row(1, 1)], ("source", "edited", "instruction", "rating", "suset"), "suset"),
        ([row(1, 1)], ("source", "edited", "instruction", "rating", "rating"), "several columns 'rating'"),
        ([row(1, "good")], None, "line 2: the rating is 'good'"),
        ([row(1, 1), row(2, "nan")], None, "line 3: the rating is 'nan'"),
        ([row(1, 1), row(2, "")], None, "line 3: the rating is empty"),
        ([row(99, 1)], None, "no image at"),
        ([row(1, 1, instruction=" ")], None, "the instruction is empty"),
        ([[*row(1, 1), "more"]], None, "more cells"),
        ([row(1, 1), row(1, 2, "two")], None, "subsets one and two"),
    ],
)
def test_tables_that_are_refused(tmp_path, rows, columns, what):
    path = ratings(tmp_path, rows, *([columns] if columns else []))
    with pytest.raises(DataError, match=what):
        read_ratings(path)


def test_a_image_that_is_none_is_refused(tmp_path):
    path = ratings(tmp_path, [row(1, 1)])
    (tmp_path / "1.png").write_text("no image")
    with pytest.raises(DataError, match="line 2"):
        read_ratings(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_ratings(tmp_path / "gone.csv")


def test_the_command_over_http(tmp_path, endpoint, capsys):
    pytest.importorskip("httpx2")
    path = table(tmp_path)
    asked = []

    def script(body):
        asked.append(body)
        return 200, endpoint.completion(json.dumps({"score": [5, 5 + len(asked) % 3], "reasoning": "so so"}))

    with endpoint.serving(script) as server:
        words = [
            "verifier",
            "agree",
            str(path),
            "--judge-url",
            server.url,
            "--json",
            str(tmp_path / "a.json"),
        ]
        assert main(words) == 0
        first = len(asked)
        assert main([*words, "--force"]) == 0
    assert first == 24 and len(asked) == 24  # two questions an edit, and none the second time
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["verifier"]["model"] == "scripted"
    assert found["all"]["compared"] == 12
    value = found["all"]["spearman"]["overall"]
    assert value is None or math.isfinite(value["mean"])
    shown = capsys.readouterr().out
    assert "scripted and the ratings of 12 edits" in shown and "Kendall" in shown


def test_mistakes_are_one_sentence(tmp_path, capsys):
    path = table(tmp_path)
    for words, what in (
        ([str(path)], "--judge-url"),
        ([str(path), "--verifier", "scene", "--judge-model", "x"], "--judge-"),
        ([str(path), "--verifier", "scene", "--scores", "luck"], "luck"),
        ([str(tmp_path / "gone.csv"), "--verifier", "scene"], "gone.csv"),
    ):
        assert main(["verifier", "agree", *words]) == 2
        said = capsys.readouterr().err
        assert what in said and said.count("\n") == 1


def test_ratings_of_aurora_bench(tmp_path):
    """JSON with its names; two people rated the first edit."""
    ratings(tmp_path, [])
    entries = [
        {"input": "source.png", "gen": f"{n}.png", "prompt": "brighter", "score": score, "task": task}
        for n, score, task in ((1, 0, "whatsup"), (1, 1, "whatsup"), (2, 2, "clevr"))
    ]
    path = tmp_path / "human_ratings.json"
    for content in (entries, {str(n): entry | {"model": "m"} for n, entry in enumerate(entries)}):
        path.write_text(json.dumps(content))
        edits = read_ratings(path)
        assert [(e.edited.name, e.rating, e.subset) for e in edits] == [
            ("1.png", 0.5, "whatsup"),
            ("2.png", 2.0, "clevr"),
        ]
    for content, what in (
        ([], "no list of ratings"),
        ({"whatsup": [1, 2]}, "no list of ratings"),
        ([entries[0] | {"score": None}], "entry 0: the rating is empty"),
        ([entries[0] | {"gen": "gone.png"}], "entry 0: there is no image"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(DataError, match=what):
            read_ratings(path)
