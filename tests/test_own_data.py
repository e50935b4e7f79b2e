"""The way of docs/own-data.md on a dozen made pairs, from images to a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earl.cli import main
from earl.data.shards import load_shards

RECIPES = Path(__file__).parents[1] / "recipes" / "own"
HELD = ["--holdout", "0.25", "--holdout-test", "0.25"]


@pytest.fixture
def edits(tmp_path, monkeypatch) -> Path:
    """Twelve pairs: coloured noise, and the same with a red square."""
    monkeypatch.chdir(tmp_path)
    folder = Path("edits")
    folder.mkdir()
    rows = []
    for number in range(12):
        small = np.random.default_rng(number).integers(0, 255, (3, 3, 3), np.uint8)
        image = Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}-before.png")
        image.paste((220, 20, 20), (30, 20, 50, 40))
        image.save(folder / f"{number}-after.png")
        pair = {"source": f"{number}-before.png", "target": f"{number}-after.png"}
        rows.append(json.dumps(pair | {"instruction": "put a red square in the middle"}))
    (folder / "edits.jsonl").write_text("\n".join(rows))
    return folder


def run(*words: object) -> int:
    return main([str(word) for word in words])


def held_ids(folder: str) -> set[str]:
    return {edit.id for edit in load_shards(folder)}


def test_from_a_folder_of_pairs_to_a_page(edits, capsys):
    assert run("data", "images", edits, "--vision", "world", "--sheet", "worst.png") == 0
    said = capsys.readouterr().out
    assert "24 images, PSNR" in said and "before any editing" in said and Path("worst.png").is_file()
    for split in ("train", "validation", "test"):
        words = ["--vision", "world", *HELD, "--split", split]
        assert run("prepare", edits / "edits.jsonl", "-o", f"runs/own/{split}", *words) == 0
        kept = len(held_ids(f"runs/own/{split}"))
        left = f"12 rows read: {split} {kept}, refused 0, {12 - kept} left to other splits\n"
        assert left in capsys.readouterr().out
    assert run("prepare", edits / "edits.jsonl", "-o", "runs/own/test", *words) == 0
    assert "all 12 rows were there already: test " in capsys.readouterr().out
    parts = [held_ids(f"runs/own/{split}") for split in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 12 and all(parts)
    few = ["length.max_steps=2", "batch.global_size=2", "batch.micro_size=2", "schedule.warmup_steps=0"]
    assert run("train", "sft", RECIPES / "sft.toml", *few, "run.threads=1", "validation.every=1") == 0
    assert "greedy_exact/edit " in capsys.readouterr().err, "edits without a family"
    short = ["length.max_steps=1", "batch.global_size=4", "batch.micro_size=4", "rollouts.group=2"]
    assert run("train", "grpo", RECIPES / "grpo.toml", *short, "run.threads=1", "heldout.prompts=2") == 0
    for name in ("sft", "grpo"):
        words = ["--split", "test", *HELD, "--verifier", "target", "--greedy"]
        words += ["--model", f"runs/own/{name}/model", "-o", f"runs/own/{name}-scores"]
        assert run("evaluate", edits / "edits.jsonl", *words) == 0
    judged = [json.loads(line) for line in Path("runs/own/sft-scores/edits.jsonl").read_text().splitlines()]
    assert {line["id"] for line in judged} == parts[2], "what neither training nor validation saw"
    assert run("evaluate", "compare", "runs/own/grpo-scores", "runs/own/sft-scores") == 0
    assert run("report", "runs/own/sft-scores", "-o", "page.html") == 0
    assert run("report", "runs/own/sft", "-o", "report.html") == 0


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.toml")))
def test_the_recipes_are_whole(name, capsys):
    stage = {"grpo.toml": "grpo", "tokenizer.toml": "tokenizer"}.get(name, "sft")
    assert run("train", stage, RECIPES / name, "--show") == 0
    assert 'folder = "runs/own/' in capsys.readouterr().out
