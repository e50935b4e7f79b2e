"""Preparation on Ray, in local mode, beside the same without it; skipped only where Ray is not installed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import source_files as files
from source_files import Marks

from earl.cli import main
from earl.config.data import PreparationSettings
from earl.data.distributed import RayStage
from earl.data.prepare import REJECTED, prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import open_source
from earl.data.tokenise import make_edits
from earl.errors import ConfigError, DataError, MissingExtraError

SETTINGS = PreparationSettings(area=32 * 32, shard_rows=5, batch=2, max_rejected=0.5)


class MarksWorker:
    """An actor with the tests' own encoder; `vision` says how it behaves."""

    def __init__(self, vision: str, device: str, dtype: str) -> None:
        self.vision, self.encoder = vision, Marks()

    def describe(self):
        return self.encoder.fingerprint(), self.encoder.codebook_size, 1024, self.encoder.rule

    def make(self, block, settings, split):
        if self.vision == "strict" and any(read.number == 6 for read in block):
            raise DataError("row 6 is not to be read")
        if self.vision == "mortal" and any(read.number == 6 for read in block):
            marker = Path(os.environ["EARL_TEST_MARKER"])
            if not marker.exists():  # dies once, with its work undone
                marker.write_text("x")
                os._exit(1)
        return make_edits(block, self.encoder, settings, split)


@pytest.fixture
def ray_here(monkeypatch, tmp_path):
    """Ray on this machine with two cores; its workers find this file and the package."""
    import ray

    places = [
        str(Path(__file__).parent),
        str(Path(files.__file__).parent),
        *os.environ.get("PYTHONPATH", "").split(os.pathsep),
    ]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    monkeypatch.setenv("EARL_TEST_MARKER", str(tmp_path / "died"))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 * 2**20)
    yield ray
    ray.shutdown()


@pytest.fixture
def own(tmp_path):
    """14 edits, one of them bad."""
    files.own_folder(tmp_path / "data", 14)
    table = tmp_path / "data" / "metadata.jsonl"
    lines = table.read_text().splitlines()
    lines[4] = json.dumps({"id": "bad", "source": "nowhere.png", "instruction": "x"})
    table.write_text("\n".join(lines))
    return tmp_path / "data"


def test_ray_makes_the_same_shards(own, tmp_path, ray_here):
    alone = prepare_source(open_source(str(own)), tmp_path / "alone", Marks(), SETTINGS)
    with RayStage("marks", actors=2, make=MarksWorker) as stage:
        first = SETTINGS.replace(limit=5)
        prepare_source(open_source(str(own)), tmp_path / "ray", stage, first, stage=stage)
        together = prepare_source(open_source(str(own)), tmp_path / "ray", stage, SETTINGS, stage=stage)
    assert together == alone
    one, two = load_shards(tmp_path / "alone"), load_shards(tmp_path / "ray")
    assert one.manifest == two.manifest
    for a, b in zip(one, two, strict=True):
        assert (a.id, a.source_hash, a.boxes) == (b.id, b.source_hash, b.boxes)
        assert np.array_equal(a.target_codes, b.target_codes) and np.array_equal(a.changed, b.changed)
    assert (tmp_path / "alone" / REJECTED).read_text() == (tmp_path / "ray" / REJECTED).read_text()
    with (
        RayStage("strict", actors=1, make=MarksWorker) as stage,
        pytest.raises(DataError, match="row 6 is not to be read"),
    ):
        prepare_source(open_source(str(own)), tmp_path / "strict", stage, SETTINGS, stage=stage)
    with RayStage("mortal", actors=1, make=MarksWorker) as stage:  # an actor that dies is started again
        assert (
            prepare_source(open_source(str(own)), tmp_path / "mortal", stage, SETTINGS, stage=stage) == alone
        )
    assert (tmp_path / "died").exists()
    assert [e.id for e in load_shards(tmp_path / "mortal")] == [e.id for e in one]
    with pytest.raises(ConfigError, match=r"3 actors need 3 CPU of Ray's nodes, which have 2"):
        RayStage("marks", actors=3, make=MarksWorker)


def test_the_command_on_ray(own, tmp_path, ray_here, capsys):
    from earl.vision.creating import create_vision_tokenizer
    from earl.vision.loading import save_vision_tokenizer

    save_vision_tokenizer(create_vision_tokenizer(seed=0, codebook_size=32), tmp_path / "vision", area=1024)
    words = [
        "prepare",
        str(own),
        "--vision",
        str(tmp_path / "vision"),
        "--device",
        "cpu",
        "--max-rejected",
        "0.5",
    ]
    assert main([*words, "-o", str(tmp_path / "alone")]) == 0
    assert main([*words, "-o", str(tmp_path / "ray"), "--engine", "ray"]) == 0
    assert "13 edits of data" in capsys.readouterr().out
    for a, b in zip(load_shards(tmp_path / "alone"), load_shards(tmp_path / "ray"), strict=True):
        assert a.id == b.id and np.array_equal(a.target_codes, b.target_codes)


def test_without_ray_one_sentence_says_what_to_install(own, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'earl-edit\[ray\]'"):
        RayStage("marks")
    words = ["prepare", str(own), "-o", str(tmp_path / "out"), "--vision", "world", "--engine", "ray"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "earl-edit[ray]" in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
