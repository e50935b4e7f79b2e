"""kill -9 of `earl reason make` from outside: no edit lost or doubled, no answer asked for without need."""

from __future__ import annotations

import time

import source_files as files
from judge_endpoint import completion, serving
from reasoning_set import chain

from command_kills import contents, kill_at_random, nursery
from earl.config.data import PreparationSettings
from earl.data.prepare import prepare_source
from earl.data.sources.opening import open_source
from earl.vision.creating import create_vision_tokenizer
from earl.vision.loading import load_vision_tokenizer, save_vision_tokenizer

COUNT, FLYING = 10, 2


def test_chains_made_through_three_kills(tmp_path):
    save_vision_tokenizer(create_vision_tokenizer(seed=0, codebook_size=32), tmp_path / "vision", area=1024)
    files.own_folder(tmp_path / "own", COUNT)
    eyes = load_vision_tokenizer(tmp_path / "vision", device="cpu")
    settings = PreparationSettings(area=96 * 64, shard_rows=3)
    prepare_source(open_source(str(tmp_path / "own")), tmp_path / "in", eyes, settings)

    def answer(_):
        time.sleep(0.05)
        return 200, completion(chain(region=[[10, 10, 90, 60]]))

    with serving(answer) as endpoint, nursery(tmp_path / "vision", tmp_path / "log.txt") as commands:
        words = ["reason", "make", str(tmp_path / "in"), "--source", str(tmp_path / "own"), "--side", "96"]
        words += ["--writer-url", endpoint.url, "--writer-concurrency", str(FLYING), "-o"]
        whole, folders = kill_at_random(commands, lambda out: [*words, str(out)], tmp_path, kills=3, each=2)
        assert len(endpoint.asked) <= COUNT * (1 + len(folders)) + FLYING * commands.kills
    expected = contents(whole)
    assert [row["id"] for row in expected["rows"]] == [f"own-{i}" for i in range(COUNT)]
    assert all("region: [" in row["reasoning"] for row in expected["rows"])
    for folder in folders:
        assert contents(folder) == expected
