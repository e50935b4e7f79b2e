"""The judge as the release asks it, held against what the release sends."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image
from test_judge import attempt, judge_at, noise

from earl.cli import main
from earl.config import JudgeSettings
from earl.errors import ConfigError
from earl.verifiers.judge import ReferenceVerifier

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving

SENT = json.loads((Path(__file__).parents[1] / "vectors" / "judge_request.json").read_text("utf-8"))
QUESTIONS = """
import does_not_exist
_context_no_delimit = '''made-up rules'''
_prompts_0shot_two_image_edit_rule = "two images"
_prompts_0shot_tie_rule_SC = "\\nsemantic <instruction>\\n"
_prompts_0shot_rule_PQ = "quality"
raise SystemExit("run")
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vie_prompts.py").write_text(QUESTIONS, "utf-8")
    (tmp_path / "reference.txt").write_text("compare for <instruction>", "utf-8")
    (tmp_path / "system.txt").write_text("be strict", "utf-8")
    return tmp_path


def check_body(body, vector, shown, text):
    assert [message["role"] for message in body["messages"]] == vector["roles"]
    content = body["messages"][-1]["content"]
    assert content[0] == {"type": "text", "text": text}
    assert len(content) == len(vector["parts"])
    for part, image in zip(content[1:], shown, strict=True):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")  # Pillow's default quality
        url = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
        assert part == {"type": "image_url", "image_url": {"url": url}}
    expected = {"model", "messages", "max_tokens"} | ({"temperature"} if vector["temperature"] else set())
    assert set(body) == expected
    assert body["max_tokens"] == vector["max_tokens"]
    assert body.get("temperature") == vector["temperature"]


def test_requests_equal_the_release(folder):
    one = attempt(instruction="paint <source> red", target=noise(3))
    judge = judge_at("http://127.0.0.1:9/v1", model="m", protocol="viescore", prompts=str(folder))
    bodies = judge.requests(one)
    semantic = "made-up rules\ntwo images\n\nsemantic paint <source> red\n"
    check_body(bodies["semantic"], SENT["semantic_consistency"], [one.source, one.edited], semantic)
    alone = "made-up rules\nquality"
    check_body(bodies["perceptual"], SENT["perceptual_quality"], [one.edited], alone)
    ground = ReferenceVerifier(judge.settings).requests(one)["reference"]
    check_body(ground, SENT["ground"], [one.target, one.edited], "compare for paint <source> red")
    assert ground["messages"][0]["content"] == "be strict"


def test_what_is_captured_is_what_the_dry_run_shows(folder):
    with serving(lambda body: (200, completion('{"score": [7, 9]}'))) as endpoint:
        judge = judge_at(endpoint.url, model="m", protocol="viescore", prompts=str(folder))
        asyncio.run(judge.judge([attempt()]))
        assert sorted(map(json.dumps, endpoint.asked)) == sorted(
            map(json.dumps, judge.requests(attempt()).values())
        )


@pytest.mark.parametrize(
    ("answer", "overall"),
    [("so <score>4</score>", 6.0), ("<score>11</score>", None), ("<score>4.5</score>", None), ("4", None)],
)
def test_ground_and_quality_make_one_score(folder, answer, overall):
    def script(body):
        return 200, completion(answer if len(body["messages"]) == 2 else '{"score": [10, 9]}')

    with serving(script) as endpoint:
        settings = JudgeSettings(url=endpoint.url, protocol="viescore", prompts=str(folder), rounds=2)
        verdict = asyncio.run(ReferenceVerifier(settings).judge([attempt(target=noise(3))]))[0]
        times = sum(len(body["messages"]) == 2 for body in endpoint.asked)
    assert verdict.overall == overall  # sqrt(4 x 9)
    assert times == (1 if overall else 2)  # what cannot be read is asked again


def test_what_is_set_wins_and_the_questions_must_be_named(folder):
    own = JudgeSettings(url="http://x/v1", protocol="viescore", prompts=str(folder), max_tokens=50)
    assert (own.max_tokens, own.jpeg, own.temperature) == (50, 75, "server")
    with pytest.raises(ConfigError, match=r"vie_prompts\.py"):
        JudgeSettings(url="http://x/v1", protocol="viescore")
    (folder / "vie_prompts.py").write_text("_context_no_delimit = open('x').read()", "utf-8")
    with pytest.raises(ConfigError, match="_prompts_0shot_rule_PQ"):
        judge_at("http://x/v1", protocol="viescore", prompts=str(folder))


def test_dry_run_prints_the_requests(folder, tmp_path, capsys):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    words = ["verifier", "ask", str(tmp_path / "a.png"), str(tmp_path / "a.png"), "make it red", "--dry-run"]
    judge = ["--judge-url", "http://127.0.0.1:9/v1", "--judge-model", "m", "--judge-protocol", "viescore"]
    assert main([*words, *judge, "--judge-prompts", str(folder / "vie_prompts.py")]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["semantic"]["max_tokens"] == 1400 and "temperature" not in shown["semantic"]
    assert shown["perceptual"]["messages"][0]["content"][1]["image_url"]["url"].endswith("…")


def test_a_dry_run_needs_no_address(tmp_path, capsys):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    words = ["verifier", "ask", str(tmp_path / "a.png"), str(tmp_path / "a.png"), "make it red"]
    assert main([*words, "--dry-run"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["semantic", "perceptual"]
    assert main(words) == 2
    assert "--judge-url" in capsys.readouterr().err
    assert main([*words, "--dry-run", "--judge-url", "x"]) == 2


def test_the_ground_score_alone(folder):
    """One question; its number is the overall score."""
    asked = []

    def script(body):
        asked.append(body)
        return 200, completion("the same <score>6</score>")

    with serving(script) as server:
        settings = JudgeSettings(url=server.url, protocol="ground", prompts=str(folder))
        verdict = asyncio.run(ReferenceVerifier(settings).judge([attempt(target=noise(3))]))[0]
    assert verdict.overall == pytest.approx(6) and len(asked) == 1
    assert asked[0]["messages"][0]["content"] == "be strict"
    assert (asked[0]["temperature"], asked[0]["max_tokens"]) == (0.3, 1300)
    with pytest.raises(ConfigError, match="name kind reference"):
        judge_at("http://127.0.0.1:9/v1", model="m", protocol="ground", prompts=str(folder))
