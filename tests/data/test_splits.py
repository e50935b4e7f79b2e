"""Which rows belong to a split: columns, names of files and folders, shards."""

from __future__ import annotations

import pytest
import source_files as files
from source_files import GOOD, Marks, ids, own_rows

from earl.config.data import PreparationSettings
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import open_source
from earl.errors import DataError

SMALL = PreparationSettings(area=32 * 32, max_rejected=1.0)


def test_a_split_column_selects_rows(tmp_path):
    names = ["train", "test", "train", "val", None, "TEST"]
    rows = [{**GOOD, "id": str(i), "split": name} for i, name in enumerate(names)]
    where = str(own_rows(tmp_path, rows))
    assert ids(open_source(where)) == ["0", "2", "4"]
    assert ids(open_source(where, split="test")) == ["1", "4", "5"]
    assert ids(open_source(where, split="validation")) == ids(open_source(where, split="dev")) == ["3", "4"]
    assert ids(open_source(where, split="all")) == [str(i) for i in range(6)]
    assert [r.sample.split for r in open_source(where, split="all").read()][:4] == [
        "train", "test", "train", "validation",
    ]  # fmt: skip
    assert set(ids(open_source(where, split="test", draw=2))) < {"1", "4", "5"}
    with pytest.raises(DataError, match=r"splits test and train and validation, and none called other"):
        open_source(where, split="other")


def test_shards_know_their_split(tmp_path):
    rows = [{**GOOD, "id": str(i), "split": ("train", "test")[i % 2]} for i in range(6)]
    own_rows(tmp_path / "own", rows)
    for split in ("train", "test"):
        prepare_source(open_source(str(tmp_path / "own"), split=split), tmp_path / split, Marks(), SMALL)
        shards = load_shards(tmp_path / split)
        assert {edit.split for edit in shards} == {split} == {shards.manifest["split"]}
        assert [edit.id for edit in shards] == [str(i) for i in range(6) if rows[i]["split"] == split]
    with pytest.raises(DataError, match=r"split = 'train', now 'test'"):
        prepare_source(open_source(str(tmp_path / "own"), split="test"), tmp_path / "train", Marks(), SMALL)


def test_a_split_column_of_a_tar(tmp_path):
    rows = [{**row, "split": "test"} for row in files.rows_of("omniedit")]
    path = files.write_tar(rows, tmp_path / "x.tar")
    columns = {"source": ("src_img",), "instruction": ("edited_prompt_list",)}
    assert len(ids(open_source(str(path), columns=columns, split="test"))) == 5
    with pytest.raises(DataError, match="has the splits test, and none called train"):
        ids(open_source(str(path), columns=columns))


@pytest.mark.parametrize("layout", ["files", "folders", "tables"])
def test_names_of_files_and_folders_tell_splits(layout, tmp_path):
    for number, split in enumerate(("train", "test", "validation")):
        rows = [{**row, "id": f"{split}{i}"} for i, row in enumerate(files.rows_of("magicbrush-test"))][
            : 3 - number
        ]
        if layout == "files":
            files.write_parquet(rows, tmp_path / "data" / f"{split}-00000-of-00001.parquet")
        elif layout == "folders":
            files.write_parquet(rows, tmp_path / split / "0.parquet")
        else:
            own_rows(tmp_path / split, [{**GOOD, "id": row["id"]} for row in rows])
    assert ids(open_source(str(tmp_path))) == ["train0", "train1", "train2"]
    assert ids(open_source(str(tmp_path), split="test")) == ["test0", "test1"]
    assert ids(open_source(str(tmp_path), split="val")) == ["validation0"]
    assert ids(open_source(str(tmp_path), default_split="test")) == ["test0", "test1"]
    assert {read.sample.split for read in open_source(str(tmp_path), split="test").read()} == {"test"}
    with pytest.raises(DataError, match=r"splits test and train and validation.*none called dreams"):
        open_source(str(tmp_path), split="dreams")


def test_a_folder_of_one_split_is_that_split(tmp_path):
    files.write_parquet(files.rows_of("magicbrush-test"), tmp_path / "test-00000-of-00001.parquet")
    assert {read.sample.split for read in open_source(str(tmp_path)).read()} == {"test"}
    with pytest.raises(DataError, match="splits test, and none called train"):
        open_source(str(tmp_path), split="train")
    with pytest.raises(DataError, match=r"none called train"):
        files.write_parquet(files.rows_of("omniedit"), tmp_path / "b" / "dev-0.parquet")
        open_source("omniedit", path=tmp_path / "b", split="train")
