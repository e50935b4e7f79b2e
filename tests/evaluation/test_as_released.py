"""The two rules for failures: means of 30 answers, a white image in place of a missing one, the tables."""

from __future__ import annotations

import json

import numpy as np
import pytest

from earl.config import EvaluationSettings
from earl.errors import ConfigError
from earl.evaluation.folder import EvaluationFolder
from earl.evaluation.page import write_page
from earl.evaluation.records import EditRecord, Summary, to_json
from earl.evaluation.results import read_results
from earl.evaluation.scores import Scored, summarise
from earl.evaluation.tables import paper_table, score_table, system_rows
from earl.records import Verdict
from earl.verifiers.answers import read_scores

from .evaluation_parts import Brightness, Inverter, run

# (answer to the semantic question, answer to the perceptual one, overall score by VIEScore's formula)
ANSWERS = [
    *[('{"score": [9, 10], "reasoning": "r"}', '{"score": [4, 8], "reasoning": "r"}', 6.0)] * 12,
    *[('{"score": [8, 2], "reasoning": "r"}', '{"score": [10, 8], "reasoning": "r"}', 4.0)] * 6,
    *[('{"score": [0, 10], "reasoning": "r"}', '{"score": [10, 10], "reasoning": "r"}', 0.0)] * 4,
    *[('{"score": [7, 7], "reasoning": "r"}', '{"score": [7, 10], "reasoning": "r"}', 7.0)] * 2,
    *[("a fine edit", '{"score": [4, 8], "reasoning": "r"}', None)] * 3,
    *[('{"score": [9], "reasoning": "r"}', '{"score": [4, 8], "reasoning": "r"}', None)] * 1,
    *[('{"score": [9, 11], "reasoning": "r"}', '{"score": [4, 8], "reasoning": "r"}', None)] * 1,
    *[('{"score": [9, 9], "reasoning": "r"}', "", None)] * 1,
]


def scored(verdict: Verdict | None, failures: str, state: str = "edited") -> Scored:
    edit = EditRecord("k", "k", 0, "make it red", "colour", "simple", "colour", state)
    return Scored(edit, verdict, failures)


def verdict_of(semantic: str, perceptual: str) -> Verdict:
    both = [read_scores(answer).scores for answer in (semantic, perceptual)]
    return Verdict("ok", *both[0], *both[1]) if None not in both else Verdict("unusable", why="prose")


def summary_of(verdicts: list[Verdict | None], failures: str) -> Summary:
    return summarise([scored(verdict, failures) for verdict in verdicts])


def test_both_means_of_thirty_answers():
    assert len(ANSWERS) == 30
    verdicts = [verdict_of(semantic, perceptual) for semantic, perceptual, _ in ANSWERS]
    for verdict, (*_, expected) in zip(verdicts, ANSWERS, strict=True):
        assert verdict.overall == (None if expected is None else pytest.approx(expected))
    total = 12 * 6 + 6 * 4 + 4 * 0 + 2 * 7
    ours, released = summary_of(verdicts, "exclude"), summary_of(verdicts, "as-released")
    assert ours.overall.mean == pytest.approx(total / 24) == released.other
    assert released.overall.mean == pytest.approx(total / 30) == ours.other
    assert (ours.judged, ours.left_out) == (24, {"unusable": 6})
    assert (released.judged, released.left_out) == (30, {})


def test_the_other_figure_is_told_only_where_it_is_of_other_scores():
    fine = Verdict("ok", 9.0, 10.0, 4.0, 8.0)
    for failures in ("exclude", "as-released"):
        assert summary_of([fine, Verdict("unreachable"), None], failures).other is None
    assert summary_of([Verdict("unusable")], "exclude").overall is None
    assert summary_of([Verdict("unusable")], "as-released").overall.mean == 0


@pytest.mark.parametrize(
    ("state", "excluded", "released"),
    [("no_image", 0.0, 6.0), ("missing", None, 6.0), ("refused", None, 6.0)],
)
def test_a_white_image_stands_for_one_that_is_missing(state, excluded, released):
    verdict = Verdict("ok", 9.0, 10.0, 4.0, 8.0)
    assert scored(verdict, "as-released", state).score("overall") == pytest.approx(released)
    ours = scored(verdict, "exclude", state)
    assert (ours.score("overall") if ours.counts else None) == excluded


class Watching(Brightness):
    """Keeps the images that it is shown."""

    def __init__(self, **more):
        super().__init__(**more)
        self.seen = {}

    async def judge(self, attempts):
        self.seen |= {attempt.key: attempt.edited for attempt in attempts}
        return await super().judge(attempts)


def test_an_evaluation_as_released(tmp_path):
    both = {}
    for failures in ("exclude", "as-released"):
        verifier = Watching(fails=["invert 3"])
        editor = Inverter(no_image=["t1"])
        results = run(tmp_path, failures, editor=editor, verifier=verifier, failures=failures)
        both[failures] = results, verifier
    ours, released = both["exclude"][0], both["as-released"][0]
    white = both["as-released"][1].seen["t1"]
    assert white.size == (256, 256) and np.asarray(white).min() == 255
    assert both["exclude"][1].seen["t1"] is None
    assert (ours.all.judged, released.all.judged) == (5, 6)
    assert ours.all.overall.mean == pytest.approx(released.all.other, abs=1e-3)
    gained = np.sqrt(10 * 9)  # the white image's score, in place of 0
    assert released.all.overall.mean == pytest.approx((5 * ours.all.overall.mean + gained) / 6, abs=1e-3)
    assert ours.all.other == pytest.approx(5 * ours.all.overall.mean / 6, abs=1e-3)

    shown = score_table(released)
    assert shown.title.endswith(", failures: as-released")
    assert f"--failures exclude): {released.all.other:.2f}" in shown.text()
    assert "a white image was judged in their place" in shown.text()
    assert f"--failures as-released): {ours.all.other:.2f}" in score_table(ours).text()
    assert to_json(read_results(tmp_path / "as-released")) == to_json(released)
    assert "failures: as-released" in write_page(tmp_path / "as-released", tmp_path / "page.html").read_text()
    rows = system_rows([ours, released])
    assert [row.failures for row in rows] == ["exclude", "as-released"]
    assert "as-released" in paper_table(rows).text()


def test_a_folder_has_one_rule(tmp_path):
    run(tmp_path, failures="as-released")
    assert EvaluationFolder(tmp_path / "run").failures == "as-released"
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["verifier"]["failures"]
    with pytest.raises(ConfigError, match="failures = 'as-released', now it is None"):
        run(tmp_path)


def test_the_setting_is_one_of_two():
    with pytest.raises(ConfigError, match="failures"):
        EvaluationSettings(failures="zero")
