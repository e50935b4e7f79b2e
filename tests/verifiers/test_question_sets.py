"""Reward models asked as published: made-up words in the publishers' files, answers read on their scales."""

from __future__ import annotations

import asyncio
import json
from importlib.util import find_spec

import pytest
from PIL import Image
from test_judge import attempt, is_semantic, judge_at

from earl.cli import main
from earl.config import JudgeSettings
from earl.errors import ConfigError
from earl.verifiers.judge import ReferenceVerifier
from earl.verifiers.question_sets import EDITSCORE, FIRM, IMGEDIT
from earl.verifiers.questions import load_prompts

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving

EDITSCORE_FILE = """
raise SystemExit("run")
_context_no_delimit_reasoning_first = "rules of 10\\n"
_prompts_0shot_two_image_edit_rule = "two of 10"
_prompts_0shot_tie_rule_SC = "\\nfrom 0 to 10: <instruction>\\n"
_prompts_0shot_rule_PQ = "quality from 0 to 10\\n"
"""
FIRM_FILE = """
raise SystemExit("run")
SCORE_LOGIT = "not asked {prompt}"
SCORE_CONSISTENCY = 'kept? {prompt} {{"score": [1/2/3/4/5]}}'
SCORE_EXECUTION = 'done? {prompt} {{"score": [1/2/3/4/5]}}'
"""


def words(body):
    return " ".join(part["text"] for part in body["messages"][0]["content"] if part["type"] == "text")


def judged(script, one=None, **settings):
    with serving(script) as endpoint:
        verdict = asyncio.run(judge_at(endpoint.url, **settings).judge([one or attempt()]))[0]
        return verdict, endpoint.asked


@pytest.fixture
def editscore(tmp_path):
    (tmp_path / "vie_prompts.py").write_text(EDITSCORE_FILE, "utf-8")
    return str(tmp_path)


@pytest.fixture
def firm(tmp_path):
    path = tmp_path / "prompt_template.py"
    path.write_text(FIRM_FILE, "utf-8")
    return str(path)


def test_editscore_is_asked_as_its_package_asks(editscore):
    judge = judge_at("http://127.0.0.1:9/v1", model="m", protocol="editscore", prompts=editscore)
    bodies = judge.requests(attempt(instruction="keep 10"))
    parts = bodies["semantic"]["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["text", "image_url", "text", "image_url", "text"]
    assert [part["text"] for part in parts if part["type"] == "text"] == [
        "<img1>: ",
        "<img2>: ",
        "rules of 10\n\ntwo of 10\n\nfrom 0 to 25: keep 10\n",
    ]
    assert parts[1]["image_url"]["url"].startswith("data:image/png")
    alone = bodies["perceptual"]["messages"][0]["content"]
    assert [part.get("text") for part in alone] == ["<img1>: ", None, "rules of 10\n\nquality from 0 to 25\n"]
    sent = {name: bodies["semantic"][name] for name in ("temperature", "max_tokens", "top_p", "top_k")}
    assert sent == {"temperature": 0.7, "max_tokens": 512, "top_p": 0.9, "top_k": 20}
    assert judge.settings.seed == 42


def test_editscore_is_read_on_its_scale_of_25(editscore):
    def script(body):
        return 200, completion('{"reasoning": "r", "score": [20, 15]}' if is_semantic(body) else "[25, 10]")

    verdict, _ = judged(script, protocol="editscore", prompts=editscore)
    assert (verdict.edit_success, verdict.over_editing, verdict.naturalness) == (8, 6, 10)
    assert verdict.overall == pytest.approx((6 * 4) ** 0.5)
    bad, _ = judged(lambda body: (200, completion("[26, 1]")), protocol="editscore", prompts=editscore)
    assert bad.status == "unusable" and "outside 0 to 25" in bad.why


def test_editscore_averages_the_overall_scores_of_its_answers(editscore):
    """Answers of 4 and 9 points of SC under PQ 4: sqrt(16) and sqrt(36), not the root of the means."""

    def script(body):
        return 200, completion(
            *(("[10, 25]", "[22.5, 25]") if is_semantic(body) else ("[10, 10]", "[10, 10]"))
        )

    verdict, asked = judged(script, protocol="editscore", prompts=editscore, samples=2)
    assert all(body["n"] == 2 for body in asked)
    assert verdict.edit_success == pytest.approx(6.5) and verdict.artifacts == 4
    assert verdict.overall == pytest.approx((4 + 6) / 2)


def test_the_installed_package_holds_what_is_read():
    if find_spec("editscore") is None:
        pytest.skip("the package editscore is not installed")
    prompts = load_prompts("editscore", needed=["semantic", "perceptual"], questions=EDITSCORE)
    assert "25" in prompts.templates["semantic"] and "10" not in prompts.templates["perceptual"]


def test_firm_asks_for_execution_and_consistency(firm):
    scores = {"done?": 4, "kept?": 3}

    def script(body):
        return 200, completion(json.dumps({"reasoning": "", "score": [scores[words(body)[:5]]]}))

    verdict, asked = judged(script, protocol="firm", prompts=firm)
    assert (verdict.edit_success, verdict.over_editing) == (7.5, 5.0)  # of 1 to 5
    assert (verdict.naturalness, verdict.artifacts) == (10, 10)
    assert sorted(map(words, asked)) == [
        'done? edit 0 {"score": [1/2/3/4/5]}',
        'kept? edit 0 {"score": [1/2/3/4/5]}',
    ]
    kinds = [part["type"] for part in asked[0]["messages"][0]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert (asked[0]["temperature"], asked[0]["max_tokens"]) == (0, 256)
    for answer, why in (('{"score": [0]}', "outside 1 to 5"), ('{"score": [4, 4]}', "2 scores instead of 1")):
        bad, _ = judged(lambda body, a=answer: (200, completion(a)), protocol="firm", prompts=firm)
        assert bad.status == "unusable" and why in bad.why


def test_imgedit_is_asked_in_words_of_the_edits_type(tmp_path):
    (tmp_path / "prompts.json").write_text(
        json.dumps({"add": "was <edit_prompt> added?", "style": "styled?"})
    )
    answer = "Brief reasoning: no.\nPrompt Compliance: 1\nVisual Seamlessness: 4\nDetail Fidelity: 4"
    settings = {"protocol": "imgedit", "prompts": str(tmp_path)}
    verdict, asked = judged(lambda body: (200, completion(answer)), attempt(family="add"), **settings)
    assert len(asked) == 1 and words(asked[0]) == "was edit 0 added?"
    assert not {"temperature", "max_tokens", "max_completion_tokens"} & set(asked[0])
    assert verdict.overall == pytest.approx(6.0)  # of 1, 4, 4 the mean is 3, doubled
    for lines in ("Prompt Compliance: 1\nVisual Seamlessness: 4", answer.replace(": 1", ": 0")):
        bad, _ = judged(lambda body, a=lines: (200, completion(a)), attempt(family="add"), **settings)
        assert bad.status == "unusable" and "3 whole numbers from 1 to 5" in bad.why
    other, asked = judged(lambda body: (200, completion(answer)), attempt(family="compose"), **settings)
    assert other.refused and "'compose'" in other.why and not asked


def test_what_does_not_fit_is_refused(editscore, firm, tmp_path):
    with pytest.raises(ConfigError, match=r"prompt_template\.py"):
        JudgeSettings(url="http://x/v1", protocol="firm")
    with pytest.raises(ConfigError, match="viescore"):
        JudgeSettings(url="http://x/v1", protocol="editscores")
    with pytest.raises(ConfigError, match="at most 10"):
        judge_at("http://x/v1", protocol="editscore", prompts=editscore, expected=True)
    with pytest.raises(ConfigError, match="target"):
        ReferenceVerifier(JudgeSettings(url="http://x/v1", protocol="firm", prompts=firm))
    with pytest.raises(ConfigError, match="pip install no_such_package_here"):
        load_prompts("no_such_package_here", questions=EDITSCORE)
    with pytest.raises(ConfigError, match="SCORE_EXECUTION"):
        (tmp_path / "prompt_template.py").write_text("SCORE_CONSISTENCY = 'x {prompt}'")
        load_prompts(tmp_path, questions=FIRM)
    with pytest.raises(ConfigError, match="texts by name"):
        (tmp_path / "prompts.json").write_text("{}")
        load_prompts(tmp_path, questions=IMGEDIT)


def test_dry_run_shows_a_published_protocol(firm, tmp_path, capsys):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    words = ["verifier", "ask", str(tmp_path / "a.png"), str(tmp_path / "a.png"), "make it red", "--dry-run"]
    judge = ["--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m", "--judge-protocol", "firm"]
    assert main([*words, *judge, "--judge-prompts", firm]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["execution", "consistency"]
