"""RISEBench's protocol on made words and rows: what is asked of each category, and how it is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_judge import attempt, judge_at, noise

from earl.config import BenchmarkSettings, JudgeSettings, VerifierSettings
from earl.errors import ConfigError
from earl.evaluation.benchmark import open_benchmark
from earl.evaluation.editors import PredictionsEditor
from earl.evaluation.run import Judging, evaluate
from earl.evaluation.tables import paper_table, published_rows, score_table, system_rows
from earl.verifiers.answers import read_final
from earl.verifiers.risebench import RISEBENCH

pytest.importorskip("httpx2")
from judge_endpoint import completion, serving

REFERENCE = (
    "reasoning",
    "reasoning_w_input",
    "spatial_ref",
    "spatial_ref_w_input",
    "logical_cons_ans",
    "logical_txt",
)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The publisher's file with words made up: each names itself and has the places of the real one."""
    lines = ["raise SystemExit('run')"]
    for name in RISEBENCH.names:
        plain = name.removeprefix("prompt_")
        text = (
            plain
            + ("" if plain == "logical_img_wo_q" else " {instruct}")
            + " {reference}" * (plain in REFERENCE)
        )
        lines.append(f'{name} = """{text}\n**Final Score:** **1-5**"""')
    path = tmp_path_factory.mktemp("rise") / "utils.py"
    path.write_text("\n".join(lines), "utf-8")
    return str(path)


def asked(words: str, family: str, target: Image.Image | None = None, **details: str) -> dict[str, list[Any]]:
    """What would be sent: by question its words (first line) and images."""
    judge = judge_at("http://127.0.0.1:9/v1", model="m", protocol="risebench", prompts=words)
    one = attempt(family=family, target=target, details=details, instruction="do <reference>")
    shown = {url: name for name, url in judge._images(one).items()}
    found: dict[str, list[Any]] = {}
    for body in judge.requests(one).values():
        text, *images = body["messages"][0]["content"]
        first = text["text"].partition("\n")[0]
        found[first] = [shown[image["image_url"]["url"]] for image in images]
        assert text["text"].endswith("**1-5**") and (body["temperature"], body["max_tokens"]) == (0, 4096)
    return found


def test_each_category_has_its_questions(words: str) -> None:
    drawn = noise(3)
    assert asked(words, "temporal_reasoning", reference="old") == {
        "consist do <reference>": ["source", "edited"],
        "reasoning do <reference> old": ["edited"],
        "generation do <reference>": ["edited"],
    }
    assert list(asked(words, "causal_reasoning", reference="old", reasoning_img="True").items())[1] == (
        "reasoning_w_input do <reference> old",
        ["source", "edited"],
    )
    assert asked(words, "spatial_reasoning", reference="left") == {
        "spatial_cons do <reference>": ["source", "edited"],
        "spatial_ref do <reference> left": ["edited"],
        "spatial_qual do <reference>": ["edited"],
    }
    assert asked(words, "spatial_reasoning", drawn, reference="left", reasoning_img="True") == {
        "spatial_cons do <reference>": ["target", "edited"],
        "spatial_ref_img do <reference>": ["target", "edited"],
        "spatial_qual do <reference>": ["edited"],
    }
    assert asked(words, "logical_reasoning", drawn, reference_txt="7", reference="no") == {
        "logical_cons_ans do <reference> 7": ["source", "edited"],
        "logical_txt do <reference> 7": ["edited"],
    }
    assert asked(words, "logical_reasoning", drawn) == {
        "logical_cons do <reference>": ["target", "edited"],
        "logical_img do <reference>": ["target", "edited"],
    }
    assert list(asked(words, "logical_reasoning", drawn, reasoning_wo_ins="True"))[1] == "logical_img_wo_q"
    assert list(asked(words, "temporal_reasoning", reference="old", consistency_free="True")) == [
        "reasoning do <reference> old",
        "generation do <reference>",
    ]


def test_an_edit_of_something_else_is_refused(words: str) -> None:
    judge = judge_at("http://127.0.0.1:9/v1", model="m", protocol="risebench", prompts=words)
    for one in (attempt(), attempt(family="logical_reasoning")):
        (verdict,) = asyncio.run(judge.judge([one]))
        assert verdict.refused and "RISEBench" in verdict.why
    with pytest.raises(ConfigError, match=r"utils\.py"):
        JudgeSettings(url="http://x/v1", protocol="risebench")
    with pytest.raises(ConfigError, match="at most 10"):
        judge_at("http://x/v1", protocol="risebench", prompts=words, expected=True)


def scored(scores: dict[str, int]) -> Callable[[dict[str, Any]], Any]:
    """A judge that gives the question whose words begin so this score."""

    def script(body: dict[str, Any]) -> Any:
        text = body["messages"][0]["content"][0]["text"]
        return 200, completion(f"Because.\n\n**Final Score:** **{scores[text.split()[0]]}**")

    return script


@pytest.mark.parametrize(
    ("family", "details", "scores", "published", "solved"),
    [  # 0.3 consistency + 0.5 reasoning + 0.2 plausibility; halved where reasoning is 1, at least 1
        ("temporal", {}, {"consist": 4, "reasoning": 3, "generation": 5}, 3.7, False),
        ("temporal", {}, {"consist": 5, "reasoning": 5, "generation": 5}, 5.0, True),
        ("causal", {}, {"consist": 5, "reasoning": 1, "generation": 5}, 1.5, False),
        ("causal", {}, {"consist": 2, "reasoning": 1, "generation": 1}, 1.0, False),
        ("spatial", {}, {"spatial_cons": 5, "spatial_ref": 5, "spatial_qual": 4}, 4.8, False),
        # 0.8 reasoning + 0.2 plausibility, and never solved
        ("temporal", {"consistency_free": "True"}, {"reasoning": 5, "generation": 5}, 5.0, False),
        ("temporal", {"consistency_free": "True"}, {"reasoning": 3, "generation": 5}, 3.4, False),
        # 0 and 1 become 1 and 5: 0.3 consistency + 0.7 reasoning
        ("logical", {"reference_txt": "7"}, {"logical_cons_ans": 1, "logical_txt": 1}, 5.0, True),
        ("logical", {"reference_txt": "7"}, {"logical_cons_ans": 0, "logical_txt": 1}, 3.8, False),
        ("logical", {"reference_txt": "7"}, {"logical_cons_ans": 1, "logical_txt": 0}, 1.1, False),
    ],
)
def test_the_score_is_the_publishers(
    family: str, details: dict[str, str], scores: dict[str, int], published: float, solved: bool, words: str
) -> None:
    one = attempt(family=f"{family}_reasoning", details={"reference": "so"} | details)
    with serving(scored(scores)) as endpoint:
        judge = judge_at(endpoint.url, protocol="risebench", prompts=words)
        (verdict,) = asyncio.run(judge.judge([one]))
        assert len(endpoint.asked) == len(scores)
    assert verdict.overall == pytest.approx((published - 1) * 2.5) and verdict.exact is solved


def test_one_final_score_is_read() -> None:
    for text, score in (
        ("**Final Score:** **4**", 4),
        ("so\n**Final Score**: **1**\n", 1),
        ("Final Score: 3/5", 3),
        ("Final Score: 2. Again, final score: 2", 2),
    ):
        assert read_final(text, low=0, high=5).scores == (score,), text
    for text in (
        "Final Score: 1-5",
        "Final Score: 3/50",
        "Final Score: 1, 0",
        "Final Score: 4.5",
        "Final Score: 6",
        "Final Score: 45",
        "Final Score: 4 ... Final Score: 3",
        "Final Score: 4. So the final score is 3",
        "Final Score: 4\nfinal_score = 3",
        "4",
        "I cannot judge this. Final Score: 3",
        "",
    ):
        assert read_final(text, low=1, high=5).scores is None, text
    assert read_final("Final Score: 4", low=1, high=5, cut_off=True).scores is None


def test_an_evaluation_gives_the_published_figure(words: str, tmp_path: Path) -> None:
    """From the publisher's table to the percentage beside the published rows."""
    rows = []
    for number, kind in enumerate(("temporal", "spatial", "logical", "logical")):
        place = f"{kind}_reasoning_images/{number}.png"
        (tmp_path / place).parent.mkdir(exist_ok=True)
        noise(number).save(tmp_path / place)
        row = {"index": f"{kind}_reasoning_{number}", "category": f"{kind}_reasoning", "image": place}
        rows.append(row | {"instruction": "do it", "reference": "so", "reference_txt": None})
    rows[2] |= {"reference_txt": "7"}
    rows[3] |= {"reference_img": rows[0]["image"]}
    table = tmp_path / "datav2_total_w_subtask.json"
    table.write_text(json.dumps(rows))
    made = tmp_path / "made"
    made.mkdir()
    for row in rows:
        noise(9).save(made / f"{row['index']}.png")
    scores = {
        "consist": 5,
        "reasoning": 5,
        "generation": 5,
        "spatial_cons": 4,
        "spatial_ref": 5,
        "spatial_qual": 5,
    }
    scores |= {"logical_cons_ans": 1, "logical_txt": 1, "logical_cons": 1, "logical_img": 0}
    benchmark = open_benchmark("risebench", BenchmarkSettings(path=str(table)))
    with serving(scored(scores)) as endpoint:
        judge = {"url": endpoint.url, "protocol": "risebench", "prompts": words}
        judging = Judging.of_settings(VerifierSettings(kind="judge", judge=judge))
        results = evaluate(tmp_path / "run", benchmark, PredictionsEditor(made, name="ours"), judging)
    assert results is not None
    exact = {family: summary.scores["exact"].mean for family, summary in results.families.items()}
    assert exact == {"temporal_reasoning": 1.0, "spatial_reasoning": 0.0, "logical_reasoning": 0.5}
    assert "solved as published, percent: 50.0" in score_table(results).text()
    (ours,) = system_rows([results])
    assert ours.scores == {"RISEBench": 5.0}
    shown = paper_table([ours, *published_rows(ours.scores)]).text()
    assert "GPT-4o-Image" in shown and "2.89" in shown and "risebench, percent / 10" in shown
