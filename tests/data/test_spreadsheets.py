"""Tables as spreadsheets, other systems and scripts write them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from earl.cli import main
from earl.data.sources.opening import open_source
from earl.data.sources.own import parse_map
from earl.errors import DataError
from earl.vision.creating import create_vision_tokenizer
from earl.vision.loading import save_vision_tokenizer

LINE = '{"source": "a.png", "target": "sub/b.png", "instruction": "x"}\n'
ROW = {"source": "a.png", "target": "sub/b.png", "instruction": "x"}


@pytest.fixture(autouse=True)
def images(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.png", "sub/b.png"):
        (tmp_path / name).write_bytes(b"image")


def read(
    folder: Path, name: str, content: str | bytes, mapping: str = ""
) -> list[tuple[str, str, str] | str]:
    """Source, target and instruction of each row, or why it was refused."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found: list[tuple[str, str, str] | str] = []
    for row in open_source(str(path), columns=parse_map(mapping)).read():
        one = row.sample
        names = [str(one.source), str(one.target)] if one else []
        found.append(
            (*(n.removeprefix(f"{folder}/") for n in names), one.instruction) if one else row.problem
        )
    return found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolons.csv", "source;target;instruction\r\na.png;sub/b.png;x\r\n"),
        ("tabs.csv", "source\ttarget\tinstruction\na.png\tsub/b.png\tx\n"),
        ("blanks.csv", "source, target, instruction\na.png, sub/b.png, x\n"),
        ("quotes.csv", 'source, target, instruction\na.png, "sub/b.png", "x"\n'),
        ("capitals.csv", "Source,TARGET,Instruction\na.png,sub/b.png,x\n"),
        ("backslashes.csv", "source,target,instruction\n.\\a.png,.\\sub\\b.png,x\n"),
        ("empty-rows.csv", "source,target,instruction\n,,\na.png,sub/b.png,x\n , ,\n,,\n"),
        ("lines.json", LINE),
        ("wrapped.json", json.dumps({"version": "1", "data": [ROW]})),
        ("by-key.json", json.dumps({"1": ROW}) + "\n"),
    ],
)
def test_they_are_read(name: str, content: str, tmp_path: Path) -> None:
    content = content * 2 if name == "lines.json" else content
    rows = read(tmp_path, name, content)
    assert rows[0] == ("a.png", "sub/b.png", "x") and len(rows) == (2 if name == "lines.json" else 1)


def test_an_exact_name_comes_before_another_spelling(tmp_path: Path) -> None:
    table = "source,Target,target,instruction\na.png,a.png,sub/b.png,x\na.png,a.png,,x\n"
    assert [row[1] for row in read(tmp_path, "two.csv", table)] == ["sub/b.png", "None"]


def test_a_semicolon_without_quotes_is_told(tmp_path: Path) -> None:
    table = "source;target;instruction\na.png;sub/b.png;x; and y\na.png;sub/b.png;x\n"
    assert "put quotes around semicolons" in read(tmp_path, "semicolons.csv", table)[0]


def test_what_is_no_row_is_refused_and_not_passed_over(tmp_path: Path) -> None:
    rows = read(tmp_path, "mixed.json", json.dumps({"version": "1", "7": ROW}))
    assert "entry 0 is not a JSON object" in rows[0] and rows[1] == ("a.png", "sub/b.png", "x")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("excel.csv", "source,target,instruction\n".encode("utf-16"), "in UTF-16; save it in UTF-8"),
        ("shell.jsonl", LINE.encode("utf-16"), "in UTF-16; save it in UTF-8"),
        ("one.json", LINE, r"no list of objects; expected \[\{…\}, \{…\}\], or JSON Lines"),
        ("two-lists.json", json.dumps({"a": [ROW], "b": [ROW]}), "no list of objects"),
        ("torn.json", '[{"source": ', "is not JSON"),
    ],
)
def test_what_cannot_be_read_says_why(name: str, content: str | bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, name, content)


def test_a_column_that_is_named_must_be_there(tmp_path: Path) -> None:
    """Its field would be empty in every row: edits without a target, without a word."""
    table = "source,After,text,session\na.png,sub/b.png,x,1\n"
    with pytest.raises(DataError, match="no column 'aftr', which --map names; it has source, After, text"):
        read(tmp_path, "map.csv", table, "target=aftr")
    with pytest.raises(DataError, match="no column 'turn', which --map names"):
        read(tmp_path, "map.csv", table, "id=session+turn")
    for name in ("After", "after"):
        assert read(tmp_path, "map.csv", table, f"target={name}") == [("a.png", "sub/b.png", "x")]
    late = '{"source": "a.png", "instruction": "x"}\n' * 30
    late += '{"source": "a.png", "instruction": "x", "after": "sub/b.png"}\n'
    assert [row[1] for row in read(tmp_path, "late.jsonl", late, "target=after")][-1] == "sub/b.png"


def test_edits_without_a_target_are_counted_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty cell is fine for reinforcement learning, and a mistake for supervised training."""
    vision = create_vision_tokenizer(seed=0, channel_multiplier=(1, 1), codebook_size=32)
    save_vision_tokenizer(vision, tmp_path / "vision", area=1024)
    table = tmp_path / "edits.csv"
    table.write_text("source,target,instruction\na.png,sub/b.png,x\na.png,,y\na.png,,z\n")
    for name, level in (("a.png", 90), ("sub/b.png", 100)):
        Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / name)
    words = ["prepare", str(table), "--vision", str(tmp_path / "vision"), "-o"]
    for tolerance, like in ((16, ", 1 with one like the source"), (8, "")):
        out = str(tmp_path / f"tolerance-{tolerance}")
        assert main([*words, out, "--tolerance", str(tolerance)]) == 0
        said = f"3 rows read: train 3 (2 without a target image{like}), refused 0"
        assert said in capsys.readouterr().out


def frame(path: Path | None, split: str) -> list[dict[str, object]]:
    """Rows of a data source of one's own that reads a table by pandas."""
    columns = {"source": [b"1", b"2", b"3"], "target": [b"4", pd.NA, pd.NaT], "family": ["a", pd.NA, "c"]}
    table = pd.DataFrame(columns | {"instruction": pd.array(["x", None, "z"], dtype="string")})
    return table.to_dict("records")


def test_what_pandas_has_for_nothing_is_no_text() -> None:
    first, second, third = (
        read.sample or read.problem for read in open_source("test_spreadsheets:frame").read()
    )
    assert (first.target, first.instruction, first.family) == (b"4", "x", "a")
    assert "no instruction" in second and (third.target, third.family) == (None, "c")
