"""kill -9 of `earl prepare` from outside: no sample lost, none doubled, nothing left lying about."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import source_files as files

from command_kills import contents, kill_at_random, nursery

BAD = (4, 11, 12)  # rows that are refused


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    from earl.vision.creating import create_vision_tokenizer
    from earl.vision.loading import save_vision_tokenizer

    folder = tmp_path_factory.mktemp("kills")
    save_vision_tokenizer(create_vision_tokenizer(seed=0, codebook_size=32), folder / "vision", area=1024)
    files.own_folder(folder / "own", 18)
    table = folder / "own" / "metadata.jsonl"
    lines = table.read_text().splitlines()
    for row in BAD:
        lines[row] = json.dumps({"id": f"bad-{row}", "source": "nowhere.png", "instruction": "x"})
    table.write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def commands(place):
    with nursery(place / "vision", place / "log.txt") as made:
        yield made


def own(place: Path, out: Path) -> list[str]:
    words = ["prepare", str(place / "own"), "-o", str(out), "--vision", str(place / "vision")]
    return [*words, "--device", "cpu", "--shard-rows", "2", "--batch", "2", "--max-rejected", "0.5"]


def test_a_source_prepared_through_ten_kills(place, commands, tmp_path):
    whole, folders = kill_at_random(commands, lambda out: own(place, out), tmp_path, kills=10)
    expected = contents(whole)
    assert [row["id"] for row in expected["rows"]] == [f"own-{i}" for i in range(18) if i not in BAD]
    assert [json.loads(line)["id"] for line in expected["rejected"].splitlines()] == [f"bad-{i}" for i in BAD]
    assert expected["leftovers"] == [] and len(expected["shards"]) == 9
    for folder in folders:
        assert contents(folder) == expected


def test_the_world_prepared_through_three_kills(place, commands, tmp_path):
    words = ["prepare", "world", "--vision", str(place / "vision"), "--device", "cpu", "--sources", "12"]
    words += ["--shard-sources", "2", "--resolution", "32", "--edits", "2", "-o"]
    whole, folders = kill_at_random(commands, lambda out: [*words, str(out)], tmp_path, kills=3, each=2)
    expected = contents(whole)
    ids = [row["id"] for row in expected["rows"]]
    assert len(ids) == len(set(ids)) >= 12 and len(expected["shards"]) == 6
    assert len({row["source"] for row in expected["rows"]}) == 12
    for folder in folders:
        assert contents(folder) == expected


def test_a_process_of_its_own_is_killed_between_shards(place, commands, tmp_path):
    """The same without the nursery: `python -m earl` from its first import on."""
    assert commands.run(own(place, tmp_path / "whole")) == 0
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-m", "earl", *own(place, out)], stdout=subprocess.DEVNULL)
    while process.poll() is None and not (out / "shard-00001").is_dir():
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert not (out / "card.json").exists() and not (out / "shard-00008").exists()
    assert commands.run(own(place, out)) == 0
    assert contents(out) == contents(tmp_path / "whole")
