"""`earl push` against a stand-in of the Hub: what is uploaded, what the card says, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hub_stand_in import hub_stand_in
from huggingface_hub import ModelCard
from PIL import Image

from earl.cli import main

TOKEN = "hf_a_token_of_the_test"
REPO = "someone/tiny-edits"


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, model_folder) -> Path:
    """Own edits of eight images, a run of two steps on them, and the evaluation of what it left."""
    home = tmp_path_factory.mktemp("push")
    rows = []
    for number in range(8):
        small = np.random.default_rng(number).integers(0, 255, (3, 3, 3), np.uint8)
        image = Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC)
        image.save(home / f"{number}.png")
        image.paste((220, 20, 20), (20, 20, 40, 40))
        image.save(home / f"{number}-after.png")
        row = {"source": f"{number}.png", "target": f"{number}-after.png", "instruction": "add a red square"}
        rows.append(json.dumps(row | {"licence": "CC-BY-4.0"}))
    (home / "edits.jsonl").write_text("\n".join(rows))
    where = Path.cwd()
    os.chdir(home)
    try:
        assert (
            run("prepare", "edits.jsonl", "-o", home / "shards", "--vision", model_folder, "--split", "train")
            == 0
        )
        (home / "recipe.toml").write_text(
            f"""stage = "sft"
title = "A run of the test"
run = {{ folder = "run", device = "cpu", threads = 1, tracker = "none" }}
model = {{ start = "{model_folder}" }}
data = {{ sources = {{ own = {{ path = "{home / "shards"}" }} }} }}
batch = {{ global_size = 2, micro_size = 2 }}
length = {{ max_steps = 2 }}
optimiser = {{ learning_rate = 1e-4 }}
"""
        )
        assert run("train", "sft", "recipe.toml") == 0
        words = ["--split", "train", "--verifier", "target", "--greedy", "--device", "cpu"]
        assert run("evaluate", "edits.jsonl", *words, "--model", "run/model", "-o", "scores") == 0
        assert run("evaluate", "edits.jsonl", *words, "--model", model_folder, "-o", "others") == 0
    finally:
        os.chdir(where)
    return home


@pytest.fixture
def hub(monkeypatch):
    with hub_stand_in(TOKEN) as made:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", made.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield made


@pytest.mark.slow
def test_a_run_is_uploaded_whole_with_its_card(trained, hub, capsys):
    notes = trained / "notes.md"
    notes.write_text("For tests alone.\n")
    words = ["--evaluations", trained / "scores", "--licence", "apache-2.0", "--notes", notes, "--private"]
    assert run("push", trained / "run", REPO, *words) == 0
    assert f"{hub.url}/{REPO}" in capsys.readouterr().out and hub.private == {REPO: True}
    files, model = hub.repositories[REPO], trained / "run" / "model"
    made = {str(path.relative_to(model)): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    assert {name: files[name] for name in made} == made
    assert set(files) - set(made) == {"README.md", "training/recipe.toml", "training/log.jsonl"}

    text = files["README.md"].decode()
    card = ModelCard(text)
    assert card.data.license == "apache-2.0" and card.data.pipeline_tag == "image-to-image"
    results = json.loads((trained / "scores" / "results.json").read_text())
    overall = results["all"]["scores"]["overall"]
    (scored,) = card.data.eval_results
    assert scored.metric_value == pytest.approx(overall["mean"], abs=1e-3)
    assert f"{overall['mean']:.2f} [{overall['low']:.2f}, {overall['high']:.2f}]" in text
    for said in (
        "A run of the test.",
        "2 steps",
        "CC-BY-4.0",
        "train 8",
        "5:1",
        "For tests alone.",
        "torch ",
    ):
        assert said in text, said
    for private in (str(trained), TOKEN, str(Path.home())):
        assert all(private.encode() not in content for content in files.values())


@pytest.mark.slow
def test_a_dry_run_sends_nothing_and_says_what_is_not_known(trained, hub, capsys):
    assert run("push", trained / "run", REPO, "--dry-run") == 0
    said = capsys.readouterr().out
    assert not hub.asked and not hub.repositories
    assert "policy/model.safetensors" in said and "training/log.jsonl" in said
    assert "Licence of the weights: not stated" in said and "No score is published" in said


@pytest.mark.slow
def test_pushed_twice_is_one_repository(trained, hub):
    assert run("push", trained / "run", REPO) == run("push", trained / "run", REPO) == 0
    assert list(hub.repositories) == [REPO]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{home}/run", "no-owner"], "expected owner/name"),
        (["{home}/nothing", REPO], "is no folder"),
        (["{home}/run", REPO, "--evaluations", "{home}/others"], "is not the model in"),
        (["{home}/run", REPO, "--evaluations", "{home}/shards"], "no results.json"),
        (["{home}/run", REPO, "--model", "{home}/shards"], "holds no model"),
        (["{home}/run", REPO, "--notes", "{home}/gone.md"], "gone.md"),
    ],
)
def test_what_cannot_be_pushed_is_refused_in_one_sentence(trained, hub, capsys, words, said):
    assert run("push", *(word.format(home=trained) for word in words)) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not hub.asked


@pytest.mark.slow
def test_a_wrong_token_is_one_sentence(trained, hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    assert run("push", trained / "run", REPO) == 2
    error = capsys.readouterr().err
    assert "hf auth login" in error and error.count("\n") == 1 and not hub.repositories
