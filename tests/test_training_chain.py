"""recipes/world/train.sh, line by line as written there, with small sizes added."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from earl.cli import main

ROOT = Path(__file__).resolve().parent.parent

SMALL = {  # what each command is given besides the README's words
    "train tokenizer": "length.max_steps=3 schedule.warmup_steps=1 batch.global_size=2 batch.micro_size=2 "
    "images.count=12 images.crop_steps=1 losses.warmup_steps=1 validation.sequences=2 validation.every=3 "
    "model.codebook_size=64",
    "train tokenizer recipes/world/decoder.toml": "length.max_steps=2 schedule.warmup_steps=1 "
    "batch.global_size=2 batch.micro_size=2 images.count=12 validation.sequences=2 validation.every=2",
    "train sft": "length.max_steps=2 schedule.warmup_steps=1 validation.sequences=8 validation.every=2",
    "train grpo": "length.max_steps=2 batch.global_size=4 batch.micro_size=4 rollouts.group=2 "
    "heldout.prompts=2",
    "convert": "",
    "prepare world": "--sources 24",
    "prepare text": "",
    "evaluate world": "--num 3 --json out.json",
}


def lines() -> list[list[str]]:
    """The words of each command of the script, without `earl`."""
    script = (ROOT / "recipes" / "world" / "train.sh").read_text(encoding="utf-8")
    return [shlex.split(line)[1:] for line in script.splitlines() if line.startswith("earl ")]


def small(words: list[str]) -> list[str]:
    """The same command with small sizes; a later option replaces an earlier one."""
    named = " ".join(words), " ".join(words[:2]), words[0]
    sizes = next(SMALL[name] for name in named if name in SMALL)
    return [*words, *sizes.split()]


def test_the_chain_runs_as_the_script_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    for words in lines():
        assert main(small(words)) == 0, f"earl {' '.join(words)}\n{capsys.readouterr()}"
    ends = [words for words in lines() if words[0] == "train" and words[1] != "tokenizer"]
    assert [Path(words[2]).stem for words in ends[-3:]] == ["edits", "more", "grpo"]
    histories = {path.parent.parent.name for path in tmp_path.glob("runs/world/*/model/policy")}
    assert histories == {Path(words[2]).stem for words in ends}
    scores = json.loads((tmp_path / "out.json").read_text())
    assert scores["editor"]["name"].endswith("runs/world/grpo/model")
    assert scores["groups"]["simple"]["n"] + scores["groups"]["complex"]["n"] == 3
