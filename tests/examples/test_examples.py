"""The packages of examples/ work by name and by dotted name, from own data to an evaluation.

Together they are the core's way from data to scores, on the tiny model: `tests/test_without_world.py`
runs this file without the world.
"""

from __future__ import annotations

import ast
import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_packages import EXAMPLES, PACKAGES, installed
from PIL import Image

from earl.cli import main
from earl.config import BenchmarkSettings
from earl.config.verifier import VerifierSettings
from earl.data.shards import load_shards
from earl.data.tasks import TaskSettings, open_tasks
from earl.errors import ConfigError
from earl.evaluation.benchmark import open_benchmark
from earl.records import Attempt
from earl.verifiers.factory import make_verifier

RUN = {"device": "cpu", "tracker": "none", "log_every": 1, "threads": 1}


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with installed(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pairs of images as `earl_pairs` reads them."""
    folder = tmp_path_factory.mktemp("pairs")
    tasks = open_tasks("squares", TaskSettings("train", 64))
    for seed in range(6):
        task = tasks.draw(seed)
        assert task.target is not None
        name = f"{task.family}-{seed}"
        task.source.save(folder / f"{name}.before.png")
        task.target.save(folder / f"{name}.after.png")
        (folder / f"{name}.txt").write_text(task.instruction)
    return folder


@pytest.fixture(scope="module")
def shards(pairs: Path, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "shards"
    assert (
        main(["prepare", "pairs", "--path", str(pairs), "-o", str(out), "--vision", str(model_folder)]) == 0
    )
    return out


def write_recipe(path: Path, tables: dict[str, Any]) -> str:
    """A recipe of nested tables as TOML; JSON's scalars and lists are TOML's."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in tables.items() if not isinstance(value, dict)]
    for key, table in tables.items():
        if isinstance(table, dict):
            lines += ["", f"[{key}]", *(f"{name} = {json.dumps(value)}" for name, value in table.items())]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_data_sources_lists_those_of_other_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "sources"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["pairs", "registered", "earl_pairs:read_pairs"] in lines
    assert main(["data", "sources", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["pairs"] == {"registered": "earl_pairs:read_pairs"} and "hub" in listed["omniedit"]


@pytest.mark.parametrize("package", PACKAGES)
def test_an_example_is_short_and_does_not_need_the_world(package: str) -> None:
    text = (EXAMPLES / package / f"{package}.py").read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(text)) and text.count("\n") < 40 and "earl.world" not in text


@pytest.mark.parametrize("kind", ["brightness", "earl_brightness:Brightness"])
def test_a_verifier(kind: str) -> None:
    verifier = make_verifier(VerifierSettings(kind=kind, options={"step": 20}))
    grey, lighter = (Image.new("RGB", (8, 8), (level,) * 3) for level in (100, 110))
    attempts = [Attempt(grey, "make it brighter", lighter), Attempt(grey, "make it darker", lighter)]
    attempts += [Attempt(grey, "make it brighter", None), Attempt(grey, "make it red", lighter)]
    verdicts = asyncio.run(verifier.judge(attempts))
    assert [verdict.status for verdict in verdicts] == ["ok", "ok", "undecodable", "unusable"]
    assert [verdict.edit_success for verdict in verdicts[:2]] == [5.0, 0.0]


@pytest.mark.parametrize("name", ["squares", "earl_squares:Squares"])
def test_a_prompt_source(name: str) -> None:
    tasks = open_tasks(name, TaskSettings("train", 32))
    one, again, other = tasks.draw(3), tasks.draw(3), tasks.draw(4)
    assert one.source.tobytes() == again.source.tobytes() != other.source.tobytes()
    assert one.source.size == (32, 32)


def test_a_data_source(shards: Path, pairs: Path, model_folder: Path, tmp_path: Path) -> None:
    edits = load_shards(shards)
    assert len(edits) == 6 and edits[0].has_target and edits[0].family in ("brighter", "darker")
    words = ["prepare", "earl_pairs:read_pairs", "--path", str(pairs), "-o", str(tmp_path / "dotted")]
    assert main([*words, "--vision", str(model_folder)]) == 0
    dotted = load_shards(tmp_path / "dotted")
    assert [edit.id for edit in dotted] == [edit.id for edit in edits]
    assert all(np.array_equal(a.source_codes, b.source_codes) for a, b in zip(dotted, edits, strict=True))


@pytest.mark.parametrize("name", ["inversion", "earl_inversion:Inversion"])
def test_a_benchmark(name: str) -> None:
    benchmark = open_benchmark(name, BenchmarkSettings(draw=3), area=32 * 32, seed=5)
    tasks = list(benchmark.tasks())
    assert [task.number for task in tasks] == [0, 1, 2] and benchmark.describe()["side"] == 32
    for task in tasks:
        assert isinstance(task.source, Image.Image) and isinstance(task.target, Image.Image)
        assert np.array_equal(np.asarray(task.target), 255 - np.asarray(task.source))


def test_a_name_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="did you mean 'squares'"):
        open_tasks("sqares", TaskSettings("train", 32))
    with pytest.raises(ConfigError, match="cannot be loaded from earl_squares:Circles"):
        open_tasks("earl_squares:Circles", TaskSettings("train", 32))
    assert main(["prepare", "pears", "-o", "x", "--vision", "y"]) == 2
    assert "pears" in capsys.readouterr().err


def test_supervised_then_reinforced(shards: Path, model_folder: Path, tmp_path: Path) -> None:
    """SFT on the data source's edits, then RL on the prompt source's with the verifier's rewards."""
    common = {"schedule": {"name": "constant"}, "precision": {"compute": "float32"}}
    sft = {
        "stage": "sft",
        "run": RUN | {"folder": str(tmp_path / "sft")},
        "length": {"max_steps": 2},
        **common,
    }
    sft |= {"batch": {"global_size": 2, "micro_size": 2}, "optimiser": {"learning_rate": 1e-3}}
    sft |= {"model": {"start": str(model_folder)}, "data.sources.pairs": {"path": str(shards)}}
    assert main(["train", "sft", write_recipe(tmp_path / "sft.toml", sft)]) == 0
    grpo = {
        "stage": "grpo",
        "run": RUN | {"folder": str(tmp_path / "rl")},
        "length": {"max_steps": 2},
        **common,
    }
    grpo |= {"batch": {"global_size": 4, "micro_size": 2}, "optimiser": {"learning_rate": 1e-3}}
    grpo |= {"model": {"start": str(tmp_path / "sft" / "model")}, "rollouts": {"group": 2}}
    grpo |= {"prompts": {"origin": "squares"}, "verifier": {"kind": "earl_brightness:Brightness"}}
    grpo |= {"heldout": {"prompts": 2}, "validation": {"every": 2}}
    assert main(["train", "grpo", write_recipe(tmp_path / "rl.toml", grpo)]) == 0
    lines = [json.loads(line) for line in (tmp_path / "rl" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["split"] == "train"] == [1, 2]
    assert (tmp_path / "rl" / "model" / "policy" / "model.safetensors").is_file()
