"""Commands of the procedural world, and verifying its images."""

from __future__ import annotations

import json

from PIL import Image
from said import one_sentence

from earl.cli import main


def test_world_sample_and_what_it_writes(tmp_path, capsys):
    words = ["world", "sample", "--num", "3", "-o", str(tmp_path / "w"), "--sheet", str(tmp_path / "s.png")]
    assert main(words) == 0
    tasks = json.loads((tmp_path / "w" / "tasks.json").read_text())
    assert len(tasks) == 3
    for task in tasks:
        assert Image.open(tmp_path / "w" / task["source"]).size == (64, 64)
        assert (tmp_path / "w" / task["target"]).exists()
        assert task["instruction"]
    assert Image.open(tmp_path / "s.png").width > 500
    capsys.readouterr()
    assert main(words) == 2
    assert "--force" in one_sentence(capsys)
    assert main([*words, "--force"]) == 0


def test_world_sample_of_an_unknown_family(tmp_path, capsys):
    assert main(["world", "sample", "-o", str(tmp_path), "--families", "colour"]) == 2
    assert "colour" in one_sentence(capsys)


def test_prepare_world_of_an_unknown_family_leaves_nothing(tmp_path, capsys):
    words = ["prepare", "world", "-o", str(tmp_path / "out"), "--vision", "no/such", "--families", "colour"]
    assert main(words) == 2
    assert "unknown edit family 'colour'" in one_sentence(capsys)
    assert not (tmp_path / "out").exists()


def test_prepare_text_and_world(model_folder, tmp_path, capsys):
    text = tmp_path / "text"
    assert main(["prepare", "text", "-o", str(text), "--codebook-size", "64", "--sentences", "200"]) == 0
    assert (text / "tokenizer.json").exists()
    assert main(["prepare", "text", "-o", str(text), "--codebook-size", "64"]) == 2
    capsys.readouterr()
    data = [
        "prepare",
        "world",
        "-o",
        str(tmp_path / "data"),
        "--vision",
        str(model_folder),
        "--device",
        "cpu",
    ]
    assert main([*data, "--sources", "3", "--shard-sources", "2"]) == 0
    assert main([*data, "--resolution", "60"]) == 2
