import numpy as np
import pytest

from earl.evaluation.intervals import Estimate, estimate
from earl.evaluation.report import Judged, by_family, format_table, summarise
from earl.records import Verdict


def good(exact=1.0, success=10.0, kept=10.0):
    return Verdict("ok", success, kept, 9.0, 9.0, exact=bool(exact))


def test_bootstrap_agrees_with_the_normal_interval():
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = estimate(values)
    low, high = found.low, found.high
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_bootstrap_is_reproducible_and_knows_its_ends():
    assert estimate([]) is None and estimate([np.nan]) is None
    assert estimate([3.0] * 5) == Estimate(3.0, 3.0, 3.0, 5)
    assert estimate([0, 1, 1, 0, 1], seed=4) == estimate([0, 1, 1, 0, 1], seed=4)
    values = np.random.default_rng(2).random(30)
    assert estimate(values) != estimate(values, seed=1)


def test_means_by_hand():
    edits = [
        Judged("a", "color", "simple", good()),
        Judged("b", "color", "simple", good(exact=0.0, success=0.0)),
    ]
    summary = summarise(edits)
    assert summary["exact"] == 0.5
    assert summary["overall"] == pytest.approx(np.sqrt(90) / 2, abs=1e-4)  # sqrt(10 * 9) and 0
    assert summary["edit_success"] == 5.0
    assert summary["over_editing"] == 10.0
    assert summary["exact_interval"] == [0.0, 1.0]


def test_no_image_counts_as_nothing_and_a_failed_verdict_counts_not_at_all():
    edits = [
        Judged("a", "color", "simple", good()),
        Judged("b", "color", "simple", Verdict("undecodable")),
        Judged("c", "color", "simple", Verdict("unfinished")),
        Judged("d", "color", "simple", Verdict("unusable", raw="no scene there")),
        Judged("e", "color", "simple", Verdict("unreachable")),
    ]
    summary = summarise(edits)
    assert (summary["n"], summary["judged"], summary["no_image"], summary["failed"]) == (5, 3, 2, 2)
    assert summary["exact"] == pytest.approx(1 / 3, abs=1e-4)
    assert summary["naturalness"] == 3.0
    table = format_table(by_family(edits))
    assert "2 completions held no image" in table
    assert "2 verdicts failed" in table


def test_nothing_judged_is_none_not_zero():
    summary = summarise([Judged("a", "color", "simple", Verdict("unusable"))])
    assert summary["overall"] is None
    assert summary["overall_interval"] is None
    assert "-" in format_table(by_family([Judged("a", "color", "simple", Verdict("unusable"))]))


def test_families_are_grouped_simple_first():
    edits = [Judged("a", "swap", "complex", good()), Judged("b", "style", "simple", good(exact=0.0))]
    report = by_family(edits)
    assert list(report["families"]) == ["style", "swap"]
    assert report["families"]["swap"]["group"] == "complex"
    assert report["complex"]["exact"] == 1.0
    assert report["simple"]["exact"] == 0.0
    lines = format_table(report).splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("style", "swap", "all"))] == [
        "style",
        "all",
        "swap",
        "all",
    ]


def test_an_ok_verdict_without_the_exactness_is_our_mistake():
    with pytest.raises(AssertionError):
        summarise([Judged("a", "color", "simple", Verdict("ok", 9.0, 9.0, 9.0, 9.0))])
