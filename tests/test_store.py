"""Files of records: records come back, torn lines are cut, anything else is one sentence."""

from __future__ import annotations

import shutil

import pytest

from earl.errors import DataError, OutputError
from earl.store import RecordFile, only_one


def test_a_torn_line_is_dropped_and_made_again(tmp_path):
    path = tmp_path / "deep" / "x.jsonl"
    store = RecordFile(path)
    store.append({"a": {"v": "ünïcode\u2028\nline"}, "b": {"v": 2}})
    whole = path.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:cut])
        store = RecordFile(path)
        assert [key for key, _ in store.items()] == ["a"]
        assert store["a"]["v"] == "ünïcode\u2028\nline" and store.get("b") is None
        store.append({"b": {"v": 2}})
        assert path.read_bytes() == whole
    path.write_bytes(b'{"key": "torn and alone')
    assert len(RecordFile(path)) == 0 and path.read_bytes() == b""
    path.write_bytes(b'{"name": "somebody else\'s"}')
    with pytest.raises(DataError, match="none of its records"):
        RecordFile(path)
    assert path.read_bytes() == b'{"name": "somebody else\'s"}'


def test_records_are_dropped(tmp_path):
    store = RecordFile(tmp_path / "x.jsonl")
    store.append({"a": {}, "b": {}, "c": {}})
    store.drop(["a", "c", "nobody"])
    assert "a" not in store and [key for key, _ in RecordFile(store.path).items()] == ["b"]


@pytest.mark.parametrize("line", [b"{}", b"[1]", b"{", b'{"key": 1}', b"\xff", b"[" * 5000])
def test_what_is_no_record_is_named(tmp_path, line):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"key": "a"}\n' + line + b"\n")
    with pytest.raises(DataError, match=r"x\.jsonl:2"):
        RecordFile(path)
    path.write_bytes(b'{"key": "a"}\n' * 2)
    with pytest.raises(DataError, match="twice"):
        RecordFile(path)


def test_one_process_works_in_a_folder(tmp_path):
    second = only_one(tmp_path)
    with only_one(tmp_path) as check, pytest.raises(OutputError, match="another process"), second:
        check()


@pytest.mark.parametrize("how", ["removed", "replaced", "moved"])
def test_a_folder_that_is_taken_away_is_noticed(how, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(OutputError, match="run was removed or replaced while"), only_one(folder) as check:
        check()
        if how == "moved":
            folder.rename(tmp_path / "elsewhere")
        else:
            shutil.rmtree(folder)
        if how == "replaced":
            folder.mkdir()
            (folder / ".lock").touch()
