"""Seeded fuzzer of model folders: one sentence for each, or a model that edits.

The whole run is marked `long`; a seed of one's own is given by EARL_FUZZ_SEED, and is printed.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.fuzz.strange import bounded, cut, damage, seeded, strange

from earl.errors import EarlError
from earl.pipeline.edit import EditPipeline

COUNTS = [30, pytest.param(1000, marks=pytest.mark.long)]
INDEX = "model.safetensors.index.json"
CONFIGS = ("config.json", "vision/config.json", "policy/config.json", "adapter/adapter_config.json")
OTHERS = ("earl.json", "tokenizer.json", "vision/preprocessor_config.json", f"policy/{INDEX}")
WHOLE = ("[" * 100_000, '{"a":' * 100_000, "9" * 5000, '{"a": ' + "9" * 5000 + "}", "", "null", "\ufeff{}")
ODD = ("x", "", 0, 1, -1, 1.5, 10**30, None, True, [], [1], {}, {"a": 1}, "nowhere.safetensors")
HUGE = (
    ("policy/config.json", "num_hidden_layers", 10**9),
    ("policy/config.json", "hidden_size", 2**31),
    ("policy/config.json", "vocab_size", 2**40),
    ("policy/config.json", "head_dim", 2**24),
    ("vision/config.json", "num_res_blocks", 10**9),
    ("vision/config.json", "base_channels", 2**20),
    ("vision/config.json", "codebook_size", 2**40),
    ("earl.json", "area", 2**60),
    ("adapter/adapter_config.json", "r", 10**9),
)


@pytest.fixture(scope="module")
def kinds(model_folder: Path, tmp_path_factory) -> list[Path]:
    return make_kinds(model_folder, tmp_path_factory.mktemp("kinds"))


def make_kinds(model_folder: Path, home: Path) -> list[Path]:
    """A model in one folder, one with its weights in shards, and an adapter on it."""
    from earl.policy.adapters import add_lora, save_adapter
    from earl.policy.loading import load_policy

    whole, sharded, adapted = home / "whole", home / "sharded", home / "adapted"
    for folder in (whole, sharded):
        shutil.copytree(model_folder, folder)
    meta = json.loads((whole / "earl.json").read_text()) | {"area": 256, "temperature": 1.0, "size": "snap"}
    for folder in (whole, sharded):
        (folder / "earl.json").write_text(json.dumps(meta))
    weights = sharded / "policy" / "model.safetensors"
    weights.rename(weights.with_name("model-00001-of-00001.safetensors"))
    index = {"metadata": {}, "weight_map": {"x": "model-00001-of-00001.safetensors"}}
    (sharded / "policy" / INDEX).write_text(json.dumps(index))
    adapted.mkdir()
    save_adapter(add_lora(load_policy(whole), 1, base=str(whole)), adapted / "adapter")
    (adapted / "earl.json").write_text(json.dumps(meta))
    return [whole, sharded, adapted]


def strangers_folder(draw: random.Random, kinds: list[Path], folder: Path) -> None:
    """A copy of one of the folders, with one or two of its JSON files spoilt; weights are links."""
    whole = draw.choice((0, 0, 0, 1, 2))
    shutil.copytree(kinds[whole], folder, copy_function=lambda a, b: Path(b).symlink_to(a))
    files = [folder / name for name in (*CONFIGS, *OTHERS) if (folder / name).is_file()]
    for path in draw.sample(files, draw.choice((1, 1, 2)) if len(files) > 1 else 1):
        content = json.loads(path.read_text())
        path.unlink()
        how = draw.random()
        if how < 0.15:
            path.write_bytes(cut(draw, json.dumps(content).encode()))
        elif how < 0.2:
            path.write_text(
                draw.choice(("[" * 100_000, '{"a":' * 100_000, "9" * 5000, "", "null", "\ufeff{}"))
            )
        elif how < 0.3:
            name, key, value = draw.choice(HUGE)
            if (folder / name).is_file() or path == folder / name:
                path = folder / name
                content = json.loads((kinds[whole] / name).read_text()) | {key: value}
                path.unlink(missing_ok=True)
            path.write_text(json.dumps(content))
        elif how < 0.7:  # one value of another kind, which a library may take for its word
            path.write_text(json.dumps({**content, **odd_value(draw, content)}))
        else:
            path.write_text(json.dumps(spoilt(draw, content)))


def odd_value(draw: random.Random, content: dict[str, Any]) -> dict[str, Any]:
    """A key of a document with a value of another kind; of an index, a value of its map half of the time."""
    files = content.get("weight_map")
    if files and draw.random() < 0.5:
        return {"weight_map": {**files, draw.choice(list(files)): draw.choice(ODD)}}
    return {draw.choice(list(content)): draw.choice(ODD)}


def spoilt(draw: random.Random, content: Any) -> Any:
    """Damaged, with the long lists of a tokenizer's ids left alone half of the time."""
    if "model" in content and draw.random() < 0.5:
        parts = {name: value for name, value in content.items() if name not in ("model", "added_tokens")}
        model = dict(content["model"])
        for name in draw.sample([*model, "continuing_subword_prefix", "unk_token", "x"], 2):
            model[name] = strange(draw) if name not in ("vocab",) else damage(draw, model[name])
        others = damage(draw, parts) if draw.random() < 0.5 else parts
        return {**content, **others, "model": model} if isinstance(others, dict) else others
    return damage(draw, content)


@pytest.mark.parametrize("count", COUNTS)
def test_model_folders(count: int, kinds: list[Path], tmp_path: Path) -> None:
    draw = seeded("models")
    image, wrong, edited = Image.new("RGB", (16, 16), "red"), [], 0
    for number in range(count):
        folder = tmp_path / "model"
        strangers_folder(draw, kinds, folder)
        try:
            with bounded():
                assert EditPipeline.from_pretrained(folder)(image, "make it blue").images
            edited += 1
        except EarlError as error:
            if "\n" in str(error) or len(str(error)) > 1010:
                wrong.append((number, repr(error)[:500]))
        except BaseException as error:  # a Rust panic is no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            wrong.append((number, repr(error)[:500]))
        shutil.rmtree(folder)
    assert not wrong, wrong
    assert 0 < edited < count
