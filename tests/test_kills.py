"""kill -9 of commands that train, draw, edit and evaluate at random moments: going on ends as without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import source_files as files
import tomli_w
from safetensors.torch import load_file

from command_kills import Nursery, contents, kill_at_random, nursery
from earl.cli import main

ROWS = 12
VARYING = ("seconds", "per_second", "at", "machine", "memory")  # in names of what no two runs share
TRAINING = {
    "batch": {"global_size": 4, "micro_size": 2},
    "optimiser": {"learning_rate": 1e-3},
    "schedule": {"name": "constant"},
    "precision": {"compute": "float32"},
    "checkpoint": {"every": 2, "keep": 2},
    "length": {"max_steps": 20},
}
TOKENIZER = {
    "batch": {"global_size": 4, "micro_size": 2},
    "validation": {"every": 5, "sequences": 3},
    "model": {"channel_multiplier": [1, 1, 1, 1], "codebook_size": 16, "area": 1024},
    "images": {"origin": "world", "resolution": 32, "count": 40, "crop": 16, "crop_steps": 4},
}


@pytest.fixture(scope="module")
def place(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve own edits with a worse one each, their shards, and a list of jobs."""
    home = tmp_path_factory.mktemp("kills")
    (home / "model").symlink_to(model_folder)
    files.own_folder(home / "own", ROWS)
    table = home / "own" / "metadata.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    rows = [{**row, "other": row["source"]} for row in rows]
    table.write_text("\n".join(map(json.dumps, rows)))
    jobs = [{"image": row["source"], "instruction": ["make it night", row["instruction"]]} for row in rows]
    (home / "own" / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    assert main(prepared(home, home / "shards")) == 0
    return home


@pytest.fixture(scope="module")
def commands(place: Path):
    with nursery(place / "model", place / "log.txt") as made:
        yield made


def prepared(home: Path, out: Path) -> list[str]:
    words = ["prepare", str(home / "own" / "metadata.jsonl"), "-o", str(out), "--device", "cpu"]
    return [*words, "--vision", str(home / "model"), "--area", "1024", "--shard-rows", "4", "--batch", "4"]


def trained(stage: str, home: Path, out: Path, **more: Any) -> list[str]:
    run = {"folder": str(out), "device": "cpu", "tracker": "none", "log_every": 1, "threads": 1}
    recipe = {"stage": stage, "run": run, **TRAINING, **more}
    path = out.with_suffix(".toml")
    path.write_text(tomli_w.dumps(recipe))
    return ["train", stage, str(path)]


def policy(stage: str, home: Path, out: Path) -> list[str]:
    data = {"sources": {"own": {"path": str(home / "shards")}}}
    return trained(stage, home, out, model={"start": str(home / "model")}, data=data)


def tokenizer(home: Path, out: Path) -> list[str]:
    images = {**TOKENIZER["images"], "cache": str(out.with_suffix(".npy"))}
    return trained("tokenizer", home, out, **TOKENIZER | {"images": images})


def drawn(home: Path, out: Path) -> list[str]:
    words = ["prepare", "edits", str(home / "own" / "metadata.jsonl"), "-o", str(out), "--device", "cpu"]
    words += ["--model", str(home / "model"), "--best-of", "2", "--least", "0"]
    return [*words, "--verifier", "target", "--shard-rows", "4", "--at-once", "2", "--max-rejected", "1"]


def evaluated(home: Path, out: Path) -> list[str]:
    words = ["evaluate", str(home / "own" / "metadata.jsonl"), "-o", str(out), "--device", "cpu"]
    return [*words, "--model", str(home / "model"), "--area", "1024", "--verifier", "target", "--batch", "2"]


def edited(home: Path, out: Path) -> list[str]:
    words = ["edit", str(home / "own" / "jobs.jsonl"), "-o", str(out), "--device", "cpu"]
    return [*words, "--model", str(home / "model"), "--area", "1024"]


def run_of(out: Path) -> dict[str, Any]:
    """Weights bit for bit, and the log step by step."""
    found = {str(path.relative_to(out)): load_file(path) for path in (out / "model").rglob("*.safetensors")}
    weights = {file: {name: t.tolist() for name, t in tensors.items()} for file, tensors in found.items()}
    lines = [plain(json.loads(line)) for line in (out / "log.jsonl").read_text().splitlines()]
    assert weights, "a model is there"
    return {"weights": weights, "log": lines, "leftovers": leftovers(out)}


def files_of(out: Path) -> dict[str, Any]:
    """Images byte for byte, and the records without times; a record a key."""
    found: dict[str, Any] = {"leftovers": leftovers(out)}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        if path.suffix == ".jsonl":
            lines = map(json.loads, path.read_text().splitlines())
            found[name] = sorted(json.dumps(plain(line)) for line in lines)
        elif path.suffix == ".json":
            found[name] = plain(json.loads(path.read_text()))
        elif path.suffix in (".png", ".md", ".csv"):
            found[name] = path.read_bytes()
    return found


def shards_of(out: Path) -> dict[str, Any]:
    return plain(contents(out))


def plain(value: Any) -> Any:
    """Without what varies by itself."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if not any(word in k for word in VARYING)}
    return [plain(item) for item in value] if isinstance(value, list) else value


def leftovers(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob(".partial-*"))


CASES = {
    "sft": (lambda home, out: policy("sft", home, out), run_of),
    "dpo": (lambda home, out: policy("dpo", home, out), run_of),
    "tokenizer": (tokenizer, run_of),
    "prepare": (prepared, shards_of),
    "prepare edits": (drawn, shards_of),
    "evaluate": (evaluated, files_of),
    "edit": (edited, files_of),
}


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_going_on_after_kills(case: str, place: Path, commands: Nursery, tmp_path: Path) -> None:
    words: Callable[[Path, Path], list[str]]
    words, held = CASES[case]
    whole, folders = kill_at_random(commands, lambda out: words(place, out), tmp_path, kills=6, each=2)
    expected = held(whole)
    assert expected["leftovers"] == []
    for folder in folders:
        found = held(folder)
        assert found.keys() == expected.keys()
        for name in expected:
            assert found[name] == expected[name], (folder, name)
