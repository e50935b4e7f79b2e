"""The recipe's verifier: over HTTP as in process, checked before training, weakened where asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from earl.cli import main
from earl.config.stages import load_stage
from earl.errors import ConfigError, VerifierError
from earl.training.grpo.train import train_grpo

from .tiny import make_recipe, recipe_table, records

pytest.importorskip("fastapi")
pytest.importorskip("httpx2")
from earl.service.http import served
from earl.service.verifier import VerifierService
from earl.world.verifier.scene import SceneVerifier

ROOT = Path(__file__).parents[3]
WORLD = str(ROOT / "recipes" / "world" / "grpo.toml")
JUDGED = ("reward", "edit_success", "over_editing", "naturalness", "artifacts", "failed", "loss")


def run_world(folder: Path, *more: str) -> int:
    """Two small steps of the shipped policy from the command line, hot enough that its rollouts differ."""
    settings = "length.max_steps=2 batch.global_size=8 batch.micro_size=8 rollouts.group=4"
    settings += " prompts.group=simple run.device=cpu"
    settings += " rollouts.temperature=5 heldout.prompts=1 validation.every=2 run.tracker=none"
    settings += " precision.compute=float32"
    return main(["train", "grpo", WORLD, *settings.split(), f"run.folder={folder}", *more])


def test_over_http_the_run_is_the_same(tmp_path: Path) -> None:
    assert run_world(tmp_path / "here") == 0
    with served(VerifierService(SceneVerifier()).app()) as url:
        there = ["verifier.kind=judge", f"verifier.judge.url={url}", "verifier.judge.timeout=200"]
        assert run_world(tmp_path / "http", *there, "verifier.second.kind=scene") == 0
    here, http = records(tmp_path / "here"), records(tmp_path / "http")
    assert [[line[name] for name in JUDGED] for line in here] == [
        [line[name] for name in JUDGED] for line in http
    ]
    assert any(0 < line["edit_success"] < 10 for line in here), "there was something to tell apart"
    for line in here:
        shares = [line[name] for name in ("exact", "untouched", "elsewhere")]
        assert all(share * 8 == round(share * 8) for share in shares) and sum(shares) <= 1
    assert sum(line["exact"] + line["untouched"] + line["elsewhere"] for line in here) > 0
    assert "exact" not in http[0], "scores that came over HTTP say no more than that"
    watched = records(tmp_path / "http", "validation")
    assert [line["step"] for line in watched] == [0, 2]
    assert all(line.get("second_gap", 0.0) == 0.0 for line in watched)
    start = json.loads((tmp_path / "http" / "run.json").read_text())["starts"][0]
    assert start["verifier"] == "earl-scene" and start["second"] == "SceneVerifier"
    assert start["versions"]["torch"] and start["machine"]["cores"] >= 1


def test_the_health_check_comes_before_everything(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path / "run")
    judge = {"url": "http://127.0.0.1:9/v1", "retries": 0, "model": "m"}
    table["verifier"] = {"kind": "judge", "judge": judge}
    with pytest.raises(VerifierError, match=r"the model at http://127.0.0.1:9/v1 is not ready"):
        train_grpo(make_recipe(table))
    with served(VerifierService(SceneVerifier()).app()) as url:
        table["verifier"]["judge"] = {"url": url, "model": "another"}
        with pytest.raises(VerifierError, match=r"'another' is not served.*earl-scene"):
            train_grpo(make_recipe(table))
    assert not (tmp_path / "run" / "recipe.toml").exists(), "nothing of the run was begun"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("verifier.kind=judge", ["kind", "judge.url"]),
        ("verifier={kind='scene', judge={url='http://x/v1'}}", ["kind", "judge"]),
        ("verifier={kind='judge', judge={url='x:8000'}}", ["judge", "url", "http://"]),
        ("verifier={kind='judge', judge={url='http://x/v1', samples=3}}", ["judge", "samples"]),
        ("verifier={kind='judge', judge={url='http://x/v1', promts='a'}}", ["verifier.judge.prompts"]),
        ("verifier.kind=sum", ["verifier", "parts"]),
        ("verifier={kind='sum', parts={a={kind='scene', weight=0}}}", ["weight"]),
    ],
)
def test_verifiers_that_do_not_fit(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load_stage(WORLD, [override])
    assert all(word in str(error.value) for word in words), str(error.value)


def test_a_second_verifier_needs_prompts_to_look_at() -> None:
    with pytest.raises(ConfigError, match=r"heldout\.prompts"):
        load_stage(WORLD, ["verifier.second.kind=scene", "heldout.prompts=0"])
