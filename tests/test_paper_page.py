"""The commands of docs/paper.md: every line is one that the package takes, in folders that agree."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from earl.cli.table import parse
from earl.data.sources.builtin import SCHEMAS

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```bash\n(.*?)```", (ROOT / "docs" / "paper.md").read_text("utf-8"), re.DOTALL)
LINES = [line for block in BLOCKS for line in block.splitlines()]
WORDS = [shlex.split(line) for line in LINES]
EARL = [words for words in WORDS if "earl" in words]


def own_words(words: list[str]) -> list[str]:
    return words[words.index("earl") + 1 :]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the recipes and a made file of questions."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "vie_prompts.py").write_text("", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", EARL, ids=lambda words: " ".join(own_words(words)[:3]))
def test_each_line_is_a_command(words, here):
    assert callable(parse(own_words(words)))


@pytest.mark.parametrize("words", [words for words in EARL if "--show" in words], ids=lambda words: words[2])
def test_recipes_resolve(words, here, capsys):
    assert not parse(own_words(words))()
    shown = capsys.readouterr().out
    if "grpo" in words:
        assert 'protocol = "viescore"' in shown and "jpeg = 75" in shown


def test_what_is_downloaded_is_what_is_read():
    """Hub ids are those of the sources, and each folder is fetched before the commands that read it."""
    names = {"emuedit": "emu-edit", "magicbrush": "magicbrush-test", "vismin": "vismin-dev"}
    fetched = {}
    for words in WORDS:
        if words[:2] == ["hf", "download"] and "--local-dir" in words:
            fetched[words[words.index("--local-dir") + 1]] = words[2]
        if "--path" in words:
            name = words[2] if words[1] == "prepare" else names.get(words[2], words[2])
            assert fetched[words[words.index("--path") + 1]] == SCHEMAS[name].hub, words
    assert len(fetched) == 11
    assert {words[0] for words in WORDS} - {"earl", "accelerate"} == {
        *("pip", "hf", "curl", "CUDA_VISIBLE_DEVICES=4,5,6,7", "CUDA_VISIBLE_DEVICES=0,1,2,3")
    }


def test_folders_agree_with_the_recipes():
    made = {words[words.index("-o") + 1] for words in map(own_words, EARL) if "-o" in words}
    recipes = [(ROOT / "recipes" / "emu3" / f"{name}.toml").read_text("utf-8") for name in ("sft-s", "grpo")]
    read = {path for text in recipes for path in re.findall(r'"(shards/[^"]+)"', text)}
    assert read and read <= made
    models = {words[words.index("--model") + 1] for words in EARL if "--model" in words}
    assert models == {re.search(r'folder = "(.*?)"', recipes[1])[1] + "/model"}
    assert re.search(r'folder = "(.*?)"', recipes[0])[1] + "/model" in recipes[1]
    table = next(words for words in EARL if "table" in words)
    assert set(table[3:-2]) <= made
