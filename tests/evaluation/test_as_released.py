"""Means of 30 answers, with unusable ones left out and as 0."""

from __future__ import annotations

import pytest

from earl.evaluation.records import EditRecord, Summary
from earl.evaluation.scores import Scored, as_released, summarise
from earl.records import Verdict


def summary_of(verdicts: list[Verdict]) -> Summary:
    edit = EditRecord("k", "k", 0, "make it red", "colour", "simple", "colour", "edited")
    return summarise([Scored(edit, verdict) for verdict in verdicts])


def test_both_means_of_thirty_answers():
    whole = [Verdict("ok", 9.0, 10.0, 4.0, 8.0)] * 20  # sqrt(9 x 4) = 6
    weak = [Verdict("ok", 0.0, 10.0, 10.0, 10.0)] * 4
    summary = summary_of(whole + weak + [Verdict("unusable", why="prose")] * 5 + [Verdict("unfinished")])
    overall = summary.scores["overall"]
    assert overall is not None and overall.mean == pytest.approx(120 / 25)
    assert as_released(summary) == pytest.approx(120 / 30)


def test_nothing_to_say_without_unusable_answers():
    assert as_released(summary_of([Verdict("ok", 9.0, 10.0, 4.0, 8.0)])) is None
    assert as_released(summary_of([Verdict("unusable")])) is None
