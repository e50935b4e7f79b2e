"""The commands of docs/paper.md, one after another, from made parquet files to the table.

The model is the shipped one in place of Emu3, the judge a scripted endpoint, and training takes one step; the
commands, recipes, folders and columns are those of the page.
"""

from __future__ import annotations

import json
import re

import pytest
import source_files as files

from earl.cli import main
from test_paper_page import EARL, ROOT, own_words

pytest.importorskip("httpx2")
import judge_endpoint

QUESTIONS = """
_context_no_delimit = "made-up rules"
_prompts_0shot_two_image_edit_rule = "two images"
_prompts_0shot_tie_rule_SC = "semantic <instruction>"
_prompts_0shot_rule_PQ = "quality"
"""
BENCHMARKS = {
    "omniedit-dev": "omniedit-dev",
    "emu_edit_test_set": "emu-edit",
    "aurora-bench": "aurora-bench",
    "magicbrush_eval": "magicbrush-test",
    "escher-vismin-dev": "vismin-dev",
    "i2bench_eval": "i2ebench",
}
JUDGES = ("Qwen/Qwen2.5-VL-72B-Instruct", "gpt-4o-mini-2024-07-18")
SMALL = ["length.max_steps=1", "precision.compute=float32", "ranks.sharding=none", "run.device=cpu"]
SFT = ["model.start=world", "model.vision_tokenizer=world", "model.area=4096", "batch.global_size=2"]
SFT += ["batch.micro_size=2", "validation.sequences=2", "schedule.warmup_steps=0"]
GRPO = ["batch.global_size=4", "batch.micro_size=4", "rollouts.group=2", "heldout.prompts=7"]


def made_data(folder):
    """A parquet file of each schema in the folder that the page names."""
    for name in ("omniedit", "humanedit", "magicbrush"):
        files.write_parquet(files.rows_of(name), folder / name / "train.parquet")
    vismin = [row | {"instruction": f"add one {n}"} for n, row in enumerate(files.rows_of("vismin"))]
    files.write_parquet(vismin, folder / "vismin" / "train.parquet")
    aurora = [
        row | {"source": source}
        for source in ("kubric", "ag", "something")
        for row in files.rows_of("aurora-ag")
    ]
    files.write_parquet(aurora, folder / "aurora" / "train.parquet")
    for place, name in BENCHMARKS.items():
        files.write_parquet(files.rows_of(name), folder / place / "test.parquet")


def adapted(words: list[str], url: str) -> list[str]:
    """A command of the page for what is here."""
    words = [re.sub(r"^~/data", "data", word) for word in own_words(words)]
    words = ["world" if word == "BAAI/Emu3-VisionTokenizer" else word for word in words]
    for option, value in (("--holdout", "0.5"), ("--judge-url", f"{url}")):
        if option in words:
            words[words.index(option) + 1] = value
    if words[:2] == ["train", "sft"]:
        return words + SMALL + SFT
    if words[:2] == ["train", "grpo"]:
        return [*words, *SMALL, *GRPO, f"verifier.judge.url={url}"]
    return [*words, "--num", "2"] if words[0] == "evaluate" and "table" not in words else words


@pytest.mark.slow
def test_from_data_to_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "made-up-key")
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "vie_prompts.py").write_text(QUESTIONS, "utf-8")
    for name in ("source.png", "edited.png"):
        files.save(files.picture(0), tmp_path / name)
    made_data(tmp_path / "data")
    answer = json.dumps({"score": [8, 8], "reasoning": "so"})
    with judge_endpoint.serving(
        lambda body: (200, judge_endpoint.completion(answer)), models=list(JUDGES)
    ) as server:
        for words in EARL:
            command = adapted(words, server.url)
            assert main(command) == 0, (command, capsys.readouterr().err[-2000:])
        asked = {body["model"] for body in server.asked}
    assert asked == set(JUDGES), "one model gives the rewards, another judges"
    table = (tmp_path / "out" / "table.md").read_text("utf-8")
    ours = next(line for line in table.splitlines() if "runs/emu3/grpo-s-sc/model" in line)
    cells = [cell.strip() for cell in ours.strip("|").split("|")]
    assert [cell.split()[0] for cell in cells[1:8]] == ["8.00"] * 7
    assert "as-released" in ours and "viescore" in ours and "EARL: SFT S" in table
    assert "edit success" in (tmp_path / "out" / "table-7.md").read_text("utf-8")
    assert (tmp_path / "runs" / "emu3" / "sft-s" / "model" / "earl.json").is_file()
