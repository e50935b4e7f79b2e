"""Counting what shards hold, by hand and through the command; the contact sheet."""

from __future__ import annotations

import json

import numpy as np
import pytest
import source_files as files
from PIL import Image

from earl.cli import main
from earl.config.data import PreparationSettings
from earl.data.prepare import prepare_source
from earl.data.shards import Edit, load_shards, start_folder, write_shard
from earl.data.sources.opening import open_source
from earl.data.stats import shard_stats
from earl.records import Box
from earl.sequence.layout import write_completion, write_prompt
from earl.sequence.trained import train_text_tokenizer
from earl.vision.creating import create_vision_tokenizer
from earl.vision.loading import load_vision_tokenizer, save_vision_tokenizer


def edit(name, source="s", **more):
    values = {
        "source_codes": np.array([[1, 2], [3, 3]], np.int32),
        "target_codes": np.array([[1, 2], [3, 5]], np.int32),
        "changed": np.array([[False, False], [False, True]]),
        "instruction": "make it red",
        "reasoning": "",
        "family": "color",
        "group": "simple",
        "licence": "MIT",
        **more,
    }
    return Edit(id=name, source=source, **values)


@pytest.fixture
def shards(tmp_path):
    wide = {"source_codes": np.zeros((1, 4), np.int32), "target_codes": np.zeros((0, 0), np.int32)}
    edits = [
        edit("a", reasoning="look. change."),
        edit("b", boxes=(Box(0, 0, 8, 8),), family="count", group="complex", split="test"),
        edit("a", source="other", licence="CC0", instruction="move"),
        edit("d", source="third", changed=np.zeros((1, 4), bool), **wide),
    ]
    start_folder(tmp_path / "in", {"fingerprint": "f", "codebook_size": 10, "area": 256})
    write_shard(tmp_path / "in", 0, edits[:3], split="train", attached={})
    write_shard(tmp_path / "in", 1, edits[3:], split="train", attached={})
    return load_shards(tmp_path / "in")


def spread(*numbers):
    return dict(zip(("count", "least", "median", "p95", "mean", "most"), numbers, strict=True))


def test_counts_by_hand(shards):
    stats = shard_stats(shards)
    assert [stats[name] for name in ("edits", "sources", "without_target", "doubled")] == [4, 3, 1, 1]
    assert stats["families"] == {"color": 3, "count": 1}
    assert stats["groups"] == {"simple": 3, "complex": 1}
    assert stats["splits"] == {"train": 3, "test": 1}
    assert stats["licences"] == {"MIT": 3, "CC0": 1}
    assert stats["grids"] == {"2*2": 3, "1*4": 1}
    assert stats["with_boxes"] == 1
    assert stats["changed"] == pytest.approx(3 / 12)
    assert stats["codes_used"] == pytest.approx(5 / 10)  # 0, 1, 2, 3, 5
    assert stats["unit"] == "characters"
    assert stats["instruction"] == spread(4, 4, 11, 11, pytest.approx(37 / 4), 11)
    assert stats["reasoning"] == spread(1, 13, 13, 13, 13, 13)
    assert stats["sequence"] is None
    assert json.loads(json.dumps(stats))["instruction"]["least"] == 4


def test_lengths_in_tokens_are_those_of_the_sequences(shards):
    tokenizer = train_text_tokenizer(["make it red", "move"], size=300, codebook_size=10)
    stats = shard_stats(shards, tokenizer)
    lengths = []
    for found in shards:
        length = len(write_prompt(found.source_codes, found.instruction, tokenizer))
        if found.has_target:
            length += len(write_completion(found.target_codes, tokenizer, found.reasoning or None))
        lengths.append(length)
    assert stats["unit"] == "tokens"
    assert (stats["sequence"]["least"], stats["sequence"]["most"]) == (min(lengths), max(lengths))
    assert stats["sequence"]["mean"] == pytest.approx(np.mean(lengths))
    assert stats["instruction"]["most"] == len(tokenizer.encode("make it red"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    model = create_vision_tokenizer(seed=0, codebook_size=32)
    save_vision_tokenizer(model, folder / "vision", area=32 * 32)
    save_vision_tokenizer(create_vision_tokenizer(seed=1, codebook_size=32), folder / "other", area=1024)
    files.own_folder(folder / "files", 6, licence="CC0-1.0", family="add")
    eyes = load_vision_tokenizer(folder / "vision", device="cpu")
    prepare_source(
        open_source(str(folder / "files")), folder / "out", eyes, PreparationSettings(area=32 * 32)
    )
    return folder


def test_the_command_prints_writes_and_draws(prepared, tmp_path, capsys):
    report, sheet = tmp_path / "stats.json", tmp_path / "sheet.png"
    words = ["data", "stats", str(prepared / "out"), "--json", str(report), "--sheet", str(sheet)]
    assert main([*words, "--vision", str(prepared / "vision"), "--num", "4"]) == 0
    said = capsys.readouterr().out
    assert "6 edits of 6 source images" in said
    assert "families  add 6" in said and "licences  CC0-1.0 6" in said and "splits    train 6" in said
    assert json.loads(report.read_text())["edits"] == 6
    pixels = np.asarray(Image.open(sheet).convert("RGB"), np.int16)
    assert pixels.shape[0] > 2 * 150 and pixels.shape[1] > 2 * 500  # four edits in two columns
    assert ((pixels[..., 0] != pixels[..., 1]).mean()) > 0.2  # images, and not paper alone
    assert main([*words, "--vision", str(prepared / "vision")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_sheet_takes_the_tokenizer_that_made_the_codes(prepared, tmp_path, capsys):
    words = ["data", "stats", str(prepared / "out"), "--sheet", str(tmp_path / "sheet.png")]
    assert main(words) == 2
    assert "--sheet needs --vision" in capsys.readouterr().err
    assert main([*words, "--vision", str(prepared / "other")]) == 2
    assert "give the one that prepared it" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()
    assert main(["data", "stats", str(tmp_path)]) == 2
    assert "no tokenised shards" in capsys.readouterr().err
