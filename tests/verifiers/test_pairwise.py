"""Edits of one image compared with each other: which pairs, who wins, what is asked and what fails."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from test_judge import attempt, noise

from earl.config import JudgeSettings
from earl.config.verifier import VerifierSettings
from earl.errors import ConfigError
from earl.verifiers.factory import make_verifier
from earl.verifiers.pairwise import PairwiseVerifier, pairs_of, win_rates

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving


def test_pairs_are_bounded_and_each_edit_is_first_as_often_as_second():
    pairs = pairs_of(8, 4)
    assert len(pairs) == 16 and len({frozenset(pair) for pair in pairs}) == 16  # of 28
    assert set(Counter(first for first, _ in pairs).values()) == {2}
    assert set(Counter(second for _, second in pairs).values()) == {2}
    assert len(pairs_of(8, 2)) == 8
    assert pairs_of(2, 4) == [(0, 1)]
    assert len(pairs_of(4, 8)) == 6  # all of them, none twice
    assert pairs_of(1, 4) == []
    with pytest.raises(ConfigError, match=r"comparisons = 3.*multiple of 2"):
        JudgeSettings(url="http://localhost", comparisons=3)


def test_win_rates_by_hand():
    # 0 beats 1 and ties with 2; 2 beats 1: 0 has 1 + 1/2 of 2, 1 nothing, 2 1/2 + 1 of 2.
    assert win_rates(3, {(0, 1): 0.0, (1, 2): 1.0, (2, 0): 0.5}) == [0.75, 0.0, 0.75]
    # a probability counts as such; the comparison of 0 and 2 failed, half of what 0 and 2 had
    assert win_rates(3, {(0, 1): 0.25, (1, 2): 0.5, (2, 0): None}) == [None, pytest.approx(0.375), None]


def judged(script, attempts, **settings):
    with serving(script) as endpoint:
        verifier = PairwiseVerifier(JudgeSettings(url=endpoint.url, retries=0, **settings))
        return asyncio.run(verifier.judge(attempts)), endpoint.asked


def images(body):
    return [part["image_url"]["url"] for part in body["messages"][0]["content"] if "image_url" in part]


def test_a_group_is_ordered_by_its_comparisons():
    """The judge prefers the longer image; three edits of one source and two of another instruction."""
    group = [attempt(edited=noise(seed)) for seed in (2, 3, 4)]
    order = sorted(range(3), key=lambda i: group[i].edited.tobytes())
    rank = {}

    def script(body):
        _, first, second = images(body)
        return 200, completion(f'{{"score": [{2 if rank[second] > rank[first] else 0}]}}')

    from earl.endpoints.message import data_url

    rank = {data_url(group[i].edited): place for place, i in enumerate(order)}
    missing = attempt(edited=None, finish_reason="length")
    verdicts, asked = judged(script, [group[0], missing, *group[1:]])
    assert verdicts[1].status == "unfinished" and len(asked) == 3
    by_edit = [verdicts[0], *verdicts[2:]]
    assert [by_edit[i].overall for i in order] == [0.0, 5.0, 10.0]
    assert "edit 0" in asked[0]["messages"][0]["content"][-1]["text"]


def test_equal_images_tie_without_a_question_and_one_alone_is_refused():
    same = [attempt(edited=noise(2)), attempt(edited=noise(2))]
    verdicts, asked = judged(lambda body: (200, completion("[2]")), same)
    assert [verdict.overall for verdict in verdicts] == [5.0, 5.0] and not asked
    (alone,), asked = judged(lambda body: (200, completion("[2]")), [attempt()])
    assert alone.status == "unusable" and alone.refused and "alone" in alone.why and not asked


@pytest.mark.parametrize(
    ("reply", "status"), [((500, "no"), "unreachable"), ((200, completion("?")), "unusable")]
)
def test_failed_comparisons_are_a_status(reply, status):
    verdicts, _ = judged(lambda body: reply, [attempt(edited=noise(seed)) for seed in (2, 3)])
    assert [verdict.status for verdict in verdicts] == [status] * 2


def test_by_name_and_with_no_other_protocol(tmp_path):
    made = make_verifier(VerifierSettings(kind="pairwise", judge=JudgeSettings(url="http://x/v1")))
    assert isinstance(made, PairwiseVerifier)
    (tmp_path / "vie_prompts.py").write_text("x = 1")
    with pytest.raises(ConfigError, match="one by one"):
        PairwiseVerifier(JudgeSettings(url="http://x/v1", protocol="viescore", prompts=str(tmp_path)))
