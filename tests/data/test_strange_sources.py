"""Data as strangers have them: hidden folders, splits, odd cells. One bad row never ends a preparation."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import struct
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import source_files as files
from source_files import GOOD, Marks, ids, own_rows

from earl.config.data import PreparationSettings
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards
from earl.data.sources.cells import PROBLEM
from earl.data.sources.opening import open_source
from earl.data.sources.rows import ColumnRows, TableRows
from earl.data.sources.tars import TarRows
from earl.errors import ConfigError, DataError
from earl.evaluation.benchmark import open_benchmark
from earl.evaluation.folder import EvaluationFolder

SMALL = PreparationSettings(area=32 * 32, max_rejected=1.0)


def problems(source):
    return {read.id: read.problem for read in source.read() if read.sample is None}


# Where files are found.


@pytest.mark.parametrize("above", [".cache/hub/x", "plain"])
def test_dot_folders_above_the_data_hide_nothing(above, tmp_path):
    place = tmp_path / above / "snapshots" / "abc"
    blob = tmp_path / above / "blobs" / "0"
    files.write_parquet(files.rows_of("emu-edit"), blob)
    (place / "data").mkdir(parents=True)
    (place / "data" / "test-00000-of-00001.parquet").symlink_to(blob)  # as the Hub's cache has it
    assert len(ids(open_source("emu-edit", path=place, draw=0))) == files.COUNT


def test_linked_folders_and_paths_with_dots(tmp_path, monkeypatch):
    files.write_parquet(files.rows_of("omniedit"), tmp_path / "disk" / "x.parquet")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "data").symlink_to(tmp_path / "disk")
    (tmp_path / "set" / "data" / "back").symlink_to(tmp_path / "set")  # a circle
    (tmp_path / "set" / ".hidden").mkdir()
    files.write_parquet(files.rows_of("omniedit"), tmp_path / "set" / ".hidden" / "x.parquet")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "deep" / "er")
    assert len(ids(open_source("omniedit", path="../../set"))) == files.COUNT


def test_a_saved_data_set_below_a_dot_folder(tmp_path):
    from datasets import Dataset, DatasetDict

    rows = files.rows_of("omniedit")
    saved = DatasetDict({"train": Dataset.from_list(rows[:3]), "test": Dataset.from_list(rows[3:])})
    saved.save_to_disk(tmp_path / ".cache" / "saved")
    columns = {"id": ("omni_edit_id",), "source": ("src_img",), "instruction": ("edited_prompt_list",)}
    where = str(tmp_path / ".cache" / "saved")
    assert ids(open_source(where, columns=columns)) == ["task_0", "task_1", "task_2"]
    assert ids(open_source(where, columns=columns, split="test")) == ["task_3", "task_4"]
    assert len(ids(open_source(where, columns=columns, split="all"))) == 5


def test_tokenised_shards_are_no_source(tmp_path):
    prepare_source(open_source(str(files.own_folder(tmp_path / "own"))), tmp_path / "out", Marks(), SMALL)
    with pytest.raises(DataError, match="tokenised shards"):
        open_source(str(tmp_path / "out"))


# Cells.


def test_nan_is_a_missing_value(tmp_path):
    nan = float("nan")
    rows = [
        {**GOOD, "id": "a", "family": nan, "reasoning": nan, "group": nan, "mask": nan, "boxes": nan},
        {**GOOD, "id": "b", "instruction": nan},
        {**GOOD, "id": nan, "split": nan, "target": nan},
    ]
    reads = list(open_source(str(own_rows(tmp_path, rows))).read())
    assert [read.id for read in reads] == ["a", "b", f"{tmp_path.name}-00000002"]
    first, second, third = (read.sample for read in reads)
    assert (first.family, first.reasoning, first.group, first.mask, first.boxes) == (
        "",
        "",
        "simple",
        None,
        (),
    )
    assert second is None and "no instruction" in reads[1].problem
    assert third.target is None
    table = {
        "source": [files.png(files.picture(0))],
        "instruction": ["x"],
        "reasoning": [nan],
        "family": [nan],
    }
    pq.write_table(pa.table(table), tmp_path / "x.parquet")
    (read,) = open_source(str(tmp_path / "x.parquet")).read()
    assert (read.sample.reasoning, read.sample.family) == ("", "")


def test_images_in_lists_addresses_and_base64(tmp_path):
    image = files.png(files.picture(0))
    text = base64.b64encode(image).decode()
    rows = {"list": ["0.png"], "data": f"data:image/png;base64,{text}", "base64": text, "plain": "0.png"}
    rows |= {
        "two": ["0.png", "1.png"],
        "none": [],
        "address": "data:image/png,xyz",
        "url": "https://a.b/c.png",
    }
    where = own_rows(tmp_path, [{**GOOD, "id": name, "source": value} for name, value in rows.items()])
    counts = prepare_source(open_source(str(where)), tmp_path / "out", Marks(), SMALL)
    assert counts.edits == 4
    assert len({edit.source for edit in load_shards(tmp_path / "out")}) == 1
    assert list(problems(open_source(str(where)))) == ["two", "none", "address", "url"]
    cells = pa.array([[files.cell(0)]], pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
    table = pa.table({"source": cells, "target": pa.array([[image]]), "instruction": ["x"]})
    pq.write_table(table, tmp_path / "x.parquet")
    (read,) = open_source(str(tmp_path / "x.parquet")).read()
    assert read.sample.source == read.sample.target == image


def test_paths_that_name_no_file(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    odd = {
        "long": "x" * 5000, "zero": "a\0b", "user": "~no-such-user/a.png", "half": "\ud800.png",
        "pipe": "fifo", "device": "/dev/zero", "kernel": "/proc/self/maps", "folder": ".",
        "base64": base64.b64encode(bytes(600)).decode(),
        "number": 5, "object": {"a": 1}, "text": {"text": "x"},
    }  # fmt: skip
    rows = [{**GOOD, "id": name, "source": value} for name, value in odd.items()]
    where = own_rows(tmp_path, [{**GOOD, "id": "good"}, *rows, {**GOOD, "id": "last"}])
    counts = prepare_source(open_source(str(where)), tmp_path / "out", Marks(), SMALL)
    assert (counts.edits, counts.rejected) == (2, len(odd))
    lines = [json.loads(line) for line in (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == list(odd)
    assert max(len(line["reason"]) for line in lines) < 300, lines


def test_texts_that_cannot_be_stored(tmp_path):
    rows = [{**GOOD, "id": "half", "instruction": "\ud800"}, {**GOOD, "id": "\udc80", "family": "x"}]
    where = own_rows(tmp_path, rows)
    (tmp_path / "metadata.jsonl").write_bytes(
        (tmp_path / "metadata.jsonl").read_bytes()
        + b'{"id": "latin", "source": "0.png", "instruction": "caf\xe9"}\n'
    )
    counts = prepare_source(open_source(str(where)), tmp_path / "out", Marks(), SMALL)
    assert (counts.edits, counts.rejected) == (1, 2)
    assert [edit.id for edit in load_shards(tmp_path / "out")] == ["\\udc80"]


def test_byte_order_marks_and_line_separators(tmp_path):
    files.own_folder(tmp_path)
    table = tmp_path / "metadata.jsonl"
    row = {**GOOD, "id": "a", "instruction": "make it\u2028night\u0085now"}
    table.write_text(json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8-sig")
    (read,) = open_source(str(tmp_path)).read()
    assert read.sample.instruction == "make it\u2028night\u0085now"
    (tmp_path / "m.json").write_text(json.dumps([row]), encoding="utf-8-sig")
    assert ids(open_source(str(tmp_path / "m.json"))) == ["a"]
    (tmp_path / "m.csv").write_text("id,source,instruction\r\nb,0.png,x\r\n", encoding="utf-8-sig")
    assert ids(open_source(str(tmp_path / "m.csv"))) == ["b"]


def test_lines_that_are_no_rows(tmp_path):
    files.own_folder(tmp_path, 2)
    table = tmp_path / "metadata.jsonl"
    good = table.read_text().splitlines()
    deep, long = '{"a":' * 50_000, '{"id": ' + "1" * 5000 + "}"
    table.write_text("\n".join(["null", good[0], '{"source": "0.p', "[1]", deep, long, good[1]]))
    source = open_source(str(tmp_path))
    assert ids(source)[1] == "own-0" and ids(source)[-1] == "own-1"
    said = list(problems(source).values())
    assert [f"jsonl:{line}" in text for line, text in zip((1, 3, 4, 5, 6), said, strict=True)] == [True] * 5
    counts = prepare_source(source, tmp_path / "out", Marks(), SMALL)
    assert (counts.edits, counts.rejected) == (2, 5)


def test_the_first_rows_may_lack_a_column(tmp_path):
    rows = [{"id": "bare", "source": "0.png"}, {**GOOD, "id": "full"}]
    source = open_source(str(own_rows(tmp_path, rows)))
    assert "no instruction" in problems(source)["bare"] and ids(source) == ["bare", "full"]


def test_columns_that_cannot_be_read(tmp_path):
    count = 3
    image = files.png(files.picture(0))
    text = pa.StringArray.from_buffers(
        count, pa.py_buffer(struct.pack("4i", 0, 2, 4, 6)), pa.py_buffer(b"ok\xff\xfeok")
    )
    columns = {
        "id": pa.array(["a", "b", "c"]),
        "source": pa.array([image] * count),
        "instruction": text,
        "family": pa.array([10**17, 0, 10**17], pa.timestamp("s")),
        "licence": pa.array([0] * count, pa.timestamp("s", tz="Nowhere/City")),
        "unused": pa.array([10**17] * count, pa.timestamp("s")),
    }
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink:
        table = pa.table(columns)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    said = problems(open_source(str(tmp_path / "x.arrow")))
    assert list(said) == ["a", "b", "c"]
    assert "column family" in said["a"] and "column instruction" in said["b"] and "column family" in said["c"]
    del columns["family"], columns["licence"]
    with pa.OSFile(str(tmp_path / "y.arrow"), "wb") as sink:
        table = pa.table(columns)
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    assert list(problems(open_source(str(tmp_path / "y.arrow")))) == ["b"]


def test_wrong_offsets_do_not_read_foreign_memory(tmp_path):
    table = pa.table({"source": ["abcd", "efgh"], "instruction": ["x", "y"]})
    path = tmp_path / "x.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    offsets, wrong = struct.pack("3i", 0, 4, 8), struct.pack("3i", 0, 2**30, 2**30 + 4)
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, wrong))
    assert len(problems(open_source(str(path)))) == 2


# Tars.


def write_members(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_members_of_tars_that_are_odd(tmp_path):
    image, row = files.png(files.picture(0)), json.dumps({"instruction": "x"}).encode()
    members = {
        "._a.source.png": b"mac", "a.source.png": image, "a.json": b"\xef\xbb\xbf" + row,
        "b.source.png": image, "b.json": b"{broken", "c.source.png": image, "c.json": row,
        "c.meta.json": b"[" * 100_000, "d.source.png": image, "d.json": b"[]",
        "e.source.png": image, "e.instruction.txt": b"\xef\xbb\xbfhello",
    }  # fmt: skip
    path = write_members(tmp_path / "x.tar", members)
    source = open_source(str(path))
    assert ids(source) == ["a", "b", "c", "d", "e"] and list(problems(source)) == ["b", "d"]
    assert [read.sample.instruction for read in source.read() if read.sample] == ["x", "x", "hello"]
    assert ids(open_source(str(write_members(tmp_path / "x.tgz", members, "w:gz")))) == ids(source)


def test_bombs_in_tars_are_refused_and_cost_no_memory(tmp_path, monkeypatch):
    import resource

    from earl.data.sources import tars

    monkeypatch.setattr(tars, "MAX_MEMBER", 2**20)
    image, row = files.png(files.picture(0)), json.dumps({"instruction": "x"}).encode()
    big = bytes(3 * 2**20)
    members = {"a.source.png": image, "a.json": row, "b.source.png": big, "b.json": row}
    path = write_members(tmp_path / "x.tgz", {**members, "c.source.png": image, "c.json": row}, "w:gz")
    source = open_source(str(path))
    assert ids(source) == ["a", "b", "c"] and "at most 1,048,576" in problems(source)["b"]
    header = tarfile.TarInfo("././@PaxHeader")  # a header of 3 GB, which `tarfile` would hold in memory
    header.size, header.type = 3 * 2**30, tarfile.XHDTYPE
    with gzip.open(tmp_path / "bomb.tgz", "wb", compresslevel=1) as file:
        file.write(header.tobuf())
        for _ in range(64):
            file.write(bytes(2**20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="header claims 3,221,225,472 bytes"):
        open_source(str(tmp_path / "bomb.tgz"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


# Sources of other packages.


@pytest.mark.parametrize("what", ["cut at a header", "cut in a header", "damaged header"])
def test_a_tar_whose_rest_cannot_be_read_does_not_end_quietly(what, tmp_path):
    path = tmp_path / "data.tar"
    with tarfile.open(path, "w") as tar:
        for number in range(4):
            for ending, content in (("source.png", files.png(files.picture(number))), ("txt", b"redder")):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    with tarfile.open(path) as tar:
        at = tar.getmembers()[4].offset
    content = bytearray(path.read_bytes())
    content[at + 150] ^= 1
    path.write_bytes(
        {"cut at a header": content[:at], "cut in a header": content[: at + 9]}.get(what, content)
    )
    reads = TarRows([path]).read()
    assert [next(reads)["__key__"], next(reads)["__key__"]] == ["0", "1"]
    with pytest.raises(DataError, match="damaged or cut short: what is at byte"):
        next(reads)


def test_a_quote_that_nothing_closes_takes_no_rows_quietly(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text('id,text\na,"two\nlines"\nb,"never closed\nc,swallowed\nd,too\n')
    rows = list(TableRows(path).read())
    assert rows[0] == {"id": "a", "text": "two\nlines"} and len(rows) == 2
    assert rows[1][PROBLEM] == f"{path}:4 opens a quote that nothing closes, to the end of the file"
    path.write_text('id,text\na,"last line"')
    assert list(TableRows(path).read()) == [{"id": "a", "text": "last line"}]


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_two_columns_of_one_name_are_refused(tmp_path, ending):
    path = tmp_path / f"data.{ending}"
    if ending == "parquet":
        column = pa.array(["a"])
        pq.write_table(pa.Table.from_arrays([column, column], ["text", "text"]), path)
    else:
        path.write_text("text,text\na,b\n".replace(",", "," if ending == "csv" else "\t"))
    with pytest.raises(DataError, match="has several columns 'text'; rename or remove all but one"):
        list(open_source(str(path)).read())


@pytest.mark.parametrize(("ending", "between", "what"), [("csv", ",", "commas"), ("tsv", "\t", "tabs")])
def test_a_row_with_more_cells_than_heads_is_refused_and_not_cut(tmp_path, ending, between, what):
    path = tmp_path / f"data.{ending}"
    lines = ("id", "text"), ("a", "invert", " and rotate"), ("b", f'"invert{between} and rotate"'), ("c",)
    path.write_text("".join(between.join(cells) + "\n" for cells in lines))
    first, second, third = TableRows(path).read()
    assert first == {PROBLEM: f"{path}:2 has more cells than the head line; put quotes around {what}"}
    assert second == {"id": "b", "text": f"invert{between} and rotate"} and third == {"id": "c"}


def test_a_column_that_unpacks_to_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("earl.data.sources.rows._LARGE", 2**20)
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"junk": [bytes([i]) * 2**20 for i in range(4)]}), path, compression="zstd")
    with pytest.raises(DataError, match="its column junk unpacks to 4,194"):
        ColumnRows([path])
    noise = [np.random.default_rng(i).bytes(2**20) for i in range(4)]
    pq.write_table(pa.table({"image": noise}), path, compression="zstd")
    assert ColumnRows([path]).count() == 4


def test_a_source_of_another_package(tmp_path, monkeypatch):
    def edits(path, split):
        for number in range(5):
            image = files.picture(number)
            row = {"id": f"s{number}", "source": image, "target": files.png(image), "instruction": "keep it"}
            yield row if number != 3 else {**row, "source": None}

    module = types.ModuleType("my_edits")
    module.edits = edits
    monkeypatch.setitem(sys.modules, "my_edits", module)
    settings = SMALL.replace(shard_rows=2)
    counts = prepare_source(open_source("my_edits:edits", split="test"), tmp_path / "out", Marks(), settings)
    assert (counts.edits, counts.rejected, counts.shards) == (4, 1, 3)
    shards = load_shards(tmp_path / "out")
    assert [edit.id for edit in shards] == ["s0", "s1", "s2", "s4"]
    assert {edit.split for edit in shards} == {"test"} and not shards[0].changed.any()
    assert np.array_equal(shards[0].source_codes, shards[0].target_codes)
    with pytest.raises(ConfigError, match="leave --hub out"):
        open_source("my_edits:edits", hub=True)
    with pytest.raises(DataError, match="no data source 'magicbrsh'; did you mean 'magicbrush'"):
        open_source("magicbrsh", path=tmp_path)


@pytest.mark.parametrize(
    "name", ["runs/no-edits", "no-edits.jsonl", "./no-edits", "~/no/edits", "no-edits.jsnl"]
)
def test_a_path_that_does_not_exist_is_named_as_one(name):
    for opened in (open_source, open_benchmark):
        with pytest.raises(DataError, match=f"there is nothing at {re.escape(name)}; check the path"):
            opened(name)


@pytest.mark.parametrize("opened", [load_shards, EvaluationFolder])
def test_a_folder_that_does_not_exist_is_not_said_to_lack_a_file(opened):
    with pytest.raises(DataError, match=r"^runs/no-edits does not exist; "):
        opened("runs/no-edits")


def test_a_name_that_is_no_path_is_compared_with_the_names_there_are():
    with pytest.raises(DataError, match=r"'emuedits' is no benchmark.*did you mean emuedit"):
        open_benchmark("emuedits")
    with pytest.raises(DataError, match=r"the data source 'no.such:rows' cannot be loaded"):
        open_source("no.such:rows")
