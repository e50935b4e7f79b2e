"""Thumbs become pairs, and pairs become shards of preferences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from earl.cli import main
from earl.data.shards import load_shards
from earl.errors import DataError
from earl.service.thumbs import Thumbs


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (64, 64), (level, level, level))


def lines(path: Path) -> list[tuple[str, str, str]]:
    """Levels of source, preferred and other image of each line."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        record = json.loads(line)
        images = [Image.open(path.parent / record[name]) for name in ("source", "preferred", "other")]
        found.append(tuple(image.getpixel((0, 0))[0] for image in images))
    return found


def test_every_liked_edit_is_paired_with_every_disliked_one(tmp_path: Path) -> None:
    thumbs = Thumbs(tmp_path / "choices.jsonl")
    assert thumbs.vote(grey(1), "darker", grey(10), liked=True) == 0 and not thumbs.path.exists()
    assert thumbs.vote(grey(1), "darker", grey(20), liked=False) == 1
    assert thumbs.vote(grey(1), "darker", grey(30), liked=False) == 1
    assert thumbs.vote(grey(1), "darker", grey(40), liked=True) == 2
    assert sorted(lines(thumbs.path)) == [(1, 10, 20), (1, 10, 30), (1, 40, 20), (1, 40, 30)]
    for source, words in ((2, "darker"), (1, "brighter")):  # another edit: no pair across
        assert thumbs.vote(grey(source), words, grey(50), liked=False) == 0
    assert len(thumbs) == 4


def test_a_thumb_that_is_changed_turns_its_pairs(tmp_path: Path) -> None:
    thumbs = Thumbs(tmp_path / "choices.jsonl")
    for level, liked in ((10, True), (20, False), (10, False), (20, True)):
        thumbs.vote(grey(1), "darker", grey(level), liked=liked)
    assert lines(thumbs.path) == [(1, 20, 10)]
    thumbs.vote(grey(1), "darker", grey(20), liked=True)  # pressed twice
    assert lines(thumbs.path) == [(1, 20, 10)]


def test_a_file_is_gone_on_with_and_read_by_prepare(tmp_path: Path) -> None:
    path = tmp_path / "choices.jsonl"
    for first in (10, 110):
        thumbs = Thumbs(path)
        thumbs.vote(grey(1), "make it night", grey(first), liked=True)
        thumbs.vote(grey(1), "make it night", grey(first + 50), liked=False)
    assert lines(path) == [(1, 10, 60), (1, 110, 160)]
    assert main(["prepare", str(path), "-o", str(tmp_path / "shards"), "--vision", "world"]) == 0
    shards = load_shards(tmp_path / "shards")
    assert len(shards) == 2
    for edit in shards:
        assert edit.other_codes is not None and (edit.other_codes != edit.target_codes).any()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "a.png"}\n')
    with pytest.raises(DataError, match="not a record with a key"):
        Thumbs(tmp_path / "a.jsonl")
