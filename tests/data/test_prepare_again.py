"""A prepared folder that is prepared again: with other settings, further, or cut off on the way."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import source_files as files
from source_files import Marks

from earl.config import BenchmarkSettings
from earl.config.data import PreparationSettings
from earl.data.card import read_card
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import open_source
from earl.errors import ConfigError, DataError, OutputError
from earl.evaluation.benchmark import open_benchmark
from earl.evaluation.folder import EvaluationFolder

AREA = 32 * 32
SMALL = PreparationSettings(area=AREA, shard_rows=2, batch=2)


def test_other_settings_are_refused_and_a_limit_goes_on(tmp_path):
    path = files.write_parquet(files.rows_of("omniedit"), tmp_path / "x.parquet")
    source, out = open_source("omniedit", path=path), tmp_path / "out"
    first = prepare_source(source, out, Marks(), PreparationSettings(area=AREA, shard_rows=2, limit=3))
    assert (first.edits, first.shards) == (3, 2)
    with pytest.raises(DataError, match="area"):
        prepare_source(source, out, Marks(), PreparationSettings(area=64 * 64, shard_rows=2))
    assert prepare_source(source, out, Marks(), PreparationSettings(area=AREA, shard_rows=2)).edits == 5
    assert [edit.id for edit in load_shards(out)] == [f"task_{i}" for i in range(5)]


def test_a_card_of_something_else_is_not_replaced(tmp_path):
    path = files.write_parquet(files.rows_of("omniedit"), tmp_path / "mine" / "x.parquet")
    (tmp_path / "mine" / "README.md").write_text("my data")
    with pytest.raises(DataError, match=r"mine has a README\.md and no shards; name another folder"):
        prepare_source(open_source("omniedit", path=path), tmp_path / "mine", Marks(), SMALL)
    assert (tmp_path / "mine" / "README.md").read_text() == "my data"


def test_the_margin_around_changes_is_a_setting(tmp_path):
    path = files.write_parquet(files.rows_of("omniedit"), tmp_path / "x.parquet")
    cells = {}
    for margin in (0, 1):
        settings = PreparationSettings(area=64 * 64, shard_rows=2, margin=margin)
        prepare_source(open_source("omniedit", path=path), tmp_path / str(margin), Marks(), settings)
        shards = load_shards(tmp_path / str(margin))
        assert shards.margin == margin
        cells[margin] = [edit.changed for edit in shards]
    assert all((grown | bare).sum() == grown.sum() for bare, grown in zip(cells[0], cells[1], strict=True))
    assert sum(grown.sum() for grown in cells[1]) > sum(bare.sum() for bare in cells[0]) > 0
    with pytest.raises(DataError, match="margin"):
        settings = PreparationSettings(area=64 * 64, shard_rows=2)
        prepare_source(open_source("omniedit", path=path), tmp_path / "0", Marks(), settings)


def test_a_folder_that_is_added_to_has_no_card_until_it_is_through(tmp_path):
    class Breaks(Marks):
        calls = 0

        def encode(self, images, resize=True):
            self.calls += 1
            if self.calls == 2:
                raise OSError("the device is gone")
            return super().encode(images, resize)

    path = files.write_parquet(files.rows_of("omniedit"), tmp_path / "x.parquet")
    source, out = open_source("omniedit", path=path), tmp_path / "out"
    prepare_source(source, out, Marks(), PreparationSettings(area=AREA, shard_rows=2, batch=2, limit=1))
    assert read_card(out)["edits"] == 1
    with pytest.raises(OSError, match="gone"):
        prepare_source(source, out, Breaks(), SMALL)
    with pytest.raises(DataError, match="not through"):
        read_card(out)
    prepare_source(source, out, Marks(), SMALL)
    assert read_card(out)["edits"] == 5


def test_another_source_of_the_same_name_is_refused(tmp_path):
    """Table, ids and instructions are the same; only the images of the first row differ."""
    mine, other, out = files.own_folder(tmp_path / "a/edits"), tmp_path / "b/edits", tmp_path / "out"
    shutil.copytree(mine, other)
    shutil.copy(other / "3.png", other / "0.png")
    prepare_source(open_source(str(mine)), out, Marks(), SMALL.replace(limit=2))
    with pytest.raises(
        DataError, match=r"out holds shards of another source of this name, or of this one bef"
    ):
        prepare_source(open_source(str(other)), out, Marks(), SMALL)
    (mine.parent / "moved").mkdir()
    moved = mine.rename(mine.parent / "moved/edits")  # where it lies does not count
    assert prepare_source(open_source(str(moved)), out, Marks(), SMALL).edits == files.COUNT
    other.rename(tmp_path / "b/others")
    with pytest.raises(DataError, match=r"made with .* = '.*edits', now '.*others'"):
        prepare_source(open_source(str(tmp_path / "b/others")), out, Marks(), SMALL)
    with (moved / "metadata.jsonl").open("a") as table:
        table.write("\n")
    with pytest.raises(DataError, match="before it changed"):
        prepare_source(open_source(str(moved)), out, Marks(), SMALL)


def test_a_folder_of_an_older_version_goes_on(tmp_path, capsys):
    source, out = open_source(str(files.own_folder(tmp_path / "edits"))), tmp_path / "out"
    prepare_source(source, out, Marks(), SMALL.replace(limit=2))
    manifest = json.loads((out / "shards.json").read_text())
    older = {name: value for name, value in manifest.items() if name not in ("contents", "checksums")}
    (out / "shards.json").write_text(json.dumps(older))
    (out / "shard-00000/checksums.json").unlink()
    assert prepare_source(source, out, Marks(), SMALL).edits == files.COUNT
    capsys.readouterr()
    assert len(load_shards(out)) == files.COUNT
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "1 shards of" in said[0] and "no checksums" in said[0]
    (out / "shards.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"shard-00000/checksums.json is missing; delete"):
        load_shards(out)


def change(what, folder):
    """Data that a check of names, sizes and first rows does not see: row 7 of 8."""
    table, image = folder / "metadata.jsonl", folder / "7-after.png"
    if what == "instruction":
        table.write_text(table.read_text().replace("add 7", "add 9"))
    elif what == "image":
        shutil.copy(folder / "6-after.png", image)
    elif what == "missing image":
        image.unlink()
    else:  # one byte in the middle of an image
        content = bytearray(image.read_bytes())
        content[len(content) // 2] ^= 1
        image.write_bytes(content)


@pytest.mark.parametrize("what", ["instruction", "image", "missing image", "byte"])
def test_own_data_that_changed_behind_the_first_rows_is_noticed(what, tmp_path):
    folder, out = files.own_folder(tmp_path / "edits", count=8), tmp_path / "out"
    prepare_source(open_source(str(folder)), out, Marks(), SMALL)
    os.utime(folder / "7-after.png", (0, 0))  # its age does not count
    assert prepare_source(open_source(str(folder)), out, Marks(), SMALL).edits == 8
    plan = {"editor": {"name": "x"}, "verifier": None}
    begun = {"benchmark": open_benchmark(str(folder)).describe(), **plan}
    EvaluationFolder.start(tmp_path / "evaluation", begun)
    change(what, folder)
    with pytest.raises(DataError, match="before it changed"):
        prepare_source(open_source(str(folder)), out, Marks(), SMALL)
    with pytest.raises(ConfigError, match="before they changed"):
        now = {"benchmark": open_benchmark(str(folder)).describe(), **plan}
        EvaluationFolder.start(tmp_path / "evaluation", now)


def test_a_folder_that_noted_names_sizes_and_first_rows_alone_goes_on(tmp_path):
    folder, out = files.own_folder(tmp_path / "edits", count=8), tmp_path / "out"
    prepare_source(open_source(str(folder)), out, Marks(), SMALL.replace(limit=2))
    manifest = json.loads((out / "shards.json").read_text())
    manifest["contents"] = manifest["contents"].split(".")[0]
    (out / "shards.json").write_text(json.dumps(manifest))
    assert prepare_source(open_source(str(folder)), out, Marks(), SMALL).edits == 8
    shutil.copy(folder / "3.png", folder / "0.png")
    with pytest.raises(DataError, match="before it changed"):
        prepare_source(open_source(str(folder)), out, Marks(), SMALL)


def test_files_too_large_to_be_read_whole_tell_names_sizes_and_first_rows(tmp_path, monkeypatch):
    path = files.write_parquet(files.rows_of("omniedit"), tmp_path / "x.parquet")
    whole = open_source("omniedit", path=path).contents()
    monkeypatch.setattr("earl.data.sources.contents._SMALL", 1000)
    assert open_source("omniedit", path=path).contents() == whole.split(".")[0]


@pytest.mark.parametrize("name", ["own", "emuedit"])
def test_an_evaluation_does_not_go_on_with_other_data_of_the_same_name(name, tmp_path):
    if name == "own":
        mine, other = files.own_folder(tmp_path / "a/edits"), tmp_path / "b/edits"
        shutil.copytree(mine, other)
        shutil.copy(other / "3.png", other / "0.png")
        opened = [open_benchmark(str(path)) for path in (mine, other)]
    else:  # a public benchmark's files in two folders
        rows = files.rows_of("emu-edit")
        for folder, held in (("a", rows), ("b", rows[::-1])):
            files.write_parquet(held, tmp_path / folder / "test.parquet")
        opened = [open_benchmark(name, BenchmarkSettings(path=str(tmp_path / place))) for place in "ab"]
    plans = [{"benchmark": one.describe(), "editor": {"name": "x"}, "verifier": None} for one in opened]
    out = EvaluationFolder.start(tmp_path / "out", plans[0])
    assert EvaluationFolder.start(out, plans[0]) == out
    with pytest.raises(ConfigError, match=r"out is an evaluation of other data of this name"):
        EvaluationFolder.start(out, plans[1])
    begun = json.loads((out / "evaluation.json").read_text())
    del begun["benchmark"]["contents"]  # as an older version wrote it
    (out / "evaluation.json").write_text(json.dumps(begun))
    assert EvaluationFolder.start(out, plans[1]) == out


def test_a_folder_that_is_removed_while_it_is_written_is_an_error(tmp_path):
    class Removes(Marks):
        def encode(self, images, resize=True):
            if (out / "shard-00000").is_dir():
                shutil.rmtree(out)
            return super().encode(images, resize)

    source, out = open_source(str(files.own_folder(tmp_path / "edits"))), tmp_path / "out"
    with pytest.raises(OutputError, match="out was removed or replaced"):
        prepare_source(source, out, Removes(), SMALL)
    assert not out.exists()
