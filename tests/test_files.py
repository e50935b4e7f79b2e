"""Atomic writes, their errors, and JSON that cannot be read."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from hashlib import blake2b
from pathlib import Path

import pytest

from earl import files
from earl.errors import ConfigError, OutputError
from earl.files import checksum, same_digest


def _refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)


def test_files_are_whole_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    assert files.write_json(path, {"é": 1}) == path
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": 1}
    files.write_text(path, "second\n")
    assert path.read_text() == "second\n"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert os.listdir(path.parent) == ["a.json"]


def test_a_failed_write_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files.write_text(tmp_path / "a", "old")
    with monkeypatch.context() as patch:
        _refuse(patch, errno.ENOSPC)
        with pytest.raises(OutputError, match=r"cannot write .*a: No space left.*intact, free some space"):
            files.write_text(path, "new")
        with pytest.raises(OutputError, match="No space left"):
            files.append_lines(path, ["new"])
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_folder_is_swapped_in_whole(tmp_path: Path) -> None:
    place = tmp_path / "model"
    for text in ("first", "second"):
        with files.new_folder(place) as fresh:
            (fresh / "deep").mkdir()
            (fresh / "deep" / "a").write_text(text)
            os.chmod(fresh / "deep" / "a", 0o600)
            assert not place.exists() or (place / "deep" / "a").read_text() == "first"
    assert (place / "deep" / "a").read_text() == "second"
    assert (place / "deep" / "a").stat().st_mode & 0o777 == place.stat().st_mode & 0o666
    with pytest.raises(ZeroDivisionError), files.new_folder(place) as fresh:
        raise ZeroDivisionError
    assert (place / "deep" / "a").read_text() == "second" and os.listdir(tmp_path) == ["model"]


def test_a_folder_behind_a_link_is_written_there(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk")
    with files.new_folder(tmp_path / "model") as fresh:
        (fresh / "a").touch()
    assert (tmp_path / "model").is_symlink() and os.listdir(tmp_path / "disk") == ["a"]
    assert sorted(os.listdir(tmp_path)) == ["disk", "model"]


@pytest.mark.parametrize("kind", ["file", "dangling"])
@pytest.mark.parametrize("below", ["", "sub/deeper"])
def test_a_file_or_a_dangling_link_in_place_of_a_folder(tmp_path: Path, kind: str, below: str) -> None:
    taken = tmp_path / "out"
    if kind == "file":
        taken.touch()
    else:
        taken.symlink_to(tmp_path / "nowhere")
    said = "is a file where" if kind == "file" else "is a link to nothing"
    path = taken / below
    with pytest.raises(OutputError, match=said):
        files.check_writable(path, folder=True)
    with pytest.raises(OutputError, match=said), files.new_folder(path):
        pass
    with pytest.raises(OutputError, match=said):
        files.write_text(path / "a", "")
    with pytest.raises(OutputError, match=said):
        files.append_lines(path / "a", [1])


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"), reason="needs setpriv")
def test_read_only_folders_are_found_before_work(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o555)
    code = (
        "import sys; from earl import files; from earl.errors import OutputError\n"
        "at = sys.argv[1]\n"
        "for path, folder in ((at, True), (at + '/a/b', True), (at + '/a', False)):\n"
        "    try: files.check_writable(path, folder=folder)\n"
        "    except OutputError as error: print(error)\n"
    )
    drop = (
        ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"] if os.geteuid() == 0 else []
    )
    if drop:
        os.chmod(tmp_path, 0o755)
    done = subprocess.run(
        [*drop, sys.executable, "-c", code, str(tmp_path / "shut")],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.count("Permission denied") == 3, done.stdout + done.stderr


def test_what_can_be_written_is_not_touched_by_the_check(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "a" / "b", folder=True)
    files.check_writable(tmp_path / "a" / "b.png")
    assert os.listdir(tmp_path) == []
    with pytest.raises(OutputError, match="is a folder; name a file"):
        files.check_writable(tmp_path)
    with pytest.raises(OutputError, match="write the folder out"):
        files.check_writable("~no-such-user/a")


def test_long_names_and_what_utf8_cannot_say(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 250)
    files.write_text(long, "x")
    with pytest.raises(OutputError, match="choose a shorter name"):
        files.write_text(tmp_path / ("n" * 300), "x")
    files.write_json(tmp_path / "half.json", {"name": "a\udc80b"})
    assert files.read_json(tmp_path / "half.json") == {"name": "a\udc80b"}


def test_lines_are_added(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    files.write_text(path, files.json_lines([{"a": 1}]))
    files.append_lines(path, [{"b": "\u2028"}])
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == [
        {"a": 1},
        {"b": "\u2028"},
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5_000, "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[1]", "expected an object"),
        (None, "No such file"),
    ],
)
def test_json_that_cannot_be_read_is_one_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"a\.json.*{said}"):
        files.read_object(path, error=ConfigError)


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 100_000) + " = 1",
        "[" + " . ".join(["a"] * 100_000) + "]",
        "x = {" + ".".join(['"a"'] * 100_000) + " = 1}",
        "x = " + "[" * 5_000 + "]" * 5_000,
    ],
)
def test_toml_that_is_too_deep_is_refused_at_once(text: str) -> None:
    began = time.process_time()
    with pytest.raises(ConfigError, match=r"a\.toml is nested too deeply"):
        files.parse_toml(text, "a.toml", error=ConfigError)
    assert time.process_time() - began < 5
    assert len(files.parse_toml(f"x = [{'0.1, ' * 5_000}]", "a.toml")["x"]) == 5_000


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": 1}', encoding="utf-8-sig")
    assert files.read_object(path) == {"a": 1}
    assert (
        files.parse_json(b'\xef\xbb\xbf{"a": 1}', "x") == files.parse_json('\ufeff{"a": 1}', "x") == {"a": 1}
    )


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    (tmp_path / "recipe.toml").symlink_to("/dev/zero")
    for name in ("config.json", "recipe.toml"):
        with pytest.raises(ConfigError, match="a pipe or a device"):
            files.read_text(tmp_path / name, error=ConfigError)


def test_a_checksum_of_pieces_sees_size_ends_and_what_lies_in_them(tmp_path: Path) -> None:
    path = tmp_path / "long"

    def of(content: bytes, **given: int) -> str:
        path.write_bytes(content)
        return checksum(path, **given)

    content = bytes(range(200))
    assert of(content, most=200) == of(content) == blake2b(content, digest_size=16).hexdigest()
    sampled = of(content, most=40, pieces=4)  # bytes 0-9, 63-72, 126-135, 190-199
    assert sampled != of(content)
    for place in range(200):
        read = any(first <= place < first + 10 for first in (0, 63, 126, 190))
        changed = content[:place] + b"\xff" + content[place + 1 :]
        assert (of(changed, most=40, pieces=4) != sampled) == read
    assert of(content[:100] + b"x" + content[100:], most=40, pieces=4) != sampled


def test_a_digest_is_the_same_as_its_part_before_the_dot() -> None:
    assert (
        same_digest("aa.bb", "aa.bb") and same_digest("aa", "aa.bb") and same_digest("aa-cc", "aa.bb-cc.dd")
    )
    assert (
        not same_digest("aa.cc", "aa.bb") and not same_digest("bb", "aa.bb") and not same_digest(None, "aa")
    )
