"""Chains of thought and keypoints in a source's rows, from their columns to shards."""

from __future__ import annotations

import json

import pytest
import source_files as files
from source_files import Marks

from earl.config.data import PreparationSettings, SourceSettings
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import open_source
from earl.data.sources.own import parse_map
from earl.errors import DataError


def prepared(folder, rows, columns="", name=None):
    """The edits of rows about one image of 200x100 pixels, brought to 64x32."""
    files.save(files.picture(1, size=(200, 100)), folder / "a.png")
    base = {"source": "a.png", "target": "a.png", "instruction": "move it"}
    (folder / "m.jsonl").write_text("\n".join(json.dumps({**base, **row}) for row in rows))
    source = open_source(str(folder / "m.jsonl"), SourceSettings(columns=parse_map(columns)))
    prepare_source(source, folder / "out", Marks(), PreparationSettings(area=64 * 32))
    return list(load_shards(folder / "out"))


@pytest.mark.parametrize(
    ("row", "columns", "written"),
    [
        ({"thinking": " It is dark. "}, "", "thinking: It is dark."),
        ({"reasoning": "one", "thinking": "two"}, "", "reasoning: one"),
        (
            {"got": "Move the cup.", "coord": [[20, 20, 100, 50]]},
            "",
            "got: Move the cup. coord: [6, 6, 32, 16]",
        ),
        (
            {
                "got": "The <p1> left of <p10>.",
                "coord": '{"<p1>": [20, 20, 100, 50], "<p10>": [0, 0, 200, 100]}',
            },
            "",
            "got: The [6, 6, 32, 16] left of [0, 0, 64, 32].",
        ),
        ({"got": "Move p1", "coord": {"p1": [20, 20, 100, 50]}}, "", "got: Move [6, 6, 32, 16]"),
        ({"got": "Move it.", "coord": '{"p1": [1]}'}, "", 'got: Move it. coord: {"p1": [1]}'),
        ({"got": "Move it.", "coord": "[20, 20, 100, 50]"}, "", "got: Move it. coord: [6, 6, 32, 16]"),
        (
            {"CoT": {"step 1": "Find it.", "step 2": " ", "step 3": "Turn it."}},
            "",
            "step 1: Find it. step 3: Turn it.",
        ),
        (
            {"got": "Move it.", "where": "[20, 20, 100, 50]"},
            "reasoning=plan:got+where",
            "plan: Move it. where: [6, 6, 32, 16]",
        ),
        ({"why": "so"}, "reasoning=why", "why: so"),
        ({"note": "x"}, "", ""),
    ],
)
def test_each_chain_has_its_key(tmp_path, row, columns, written):
    (edit,) = prepared(tmp_path, [row], columns)
    assert edit.reasoning == written


def test_keypoints_are_read_and_scaled(tmp_path):
    rows = [
        {"id": "a", "keypoints": [[20, 50], [200, 100]]},
        {"id": "b", "keypoints": "[0.5, 0.5]"},
        {"id": "c"},
    ]
    first, second, third = prepared(tmp_path, rows)
    assert first.keypoints == ((pytest.approx(6.4), 16), (64, 32))
    assert second.keypoints == ((32, 16),) and third.keypoints == ()


def test_keypoints_of_another_form_are_named(tmp_path):
    with pytest.raises(DataError, match="refused"):
        prepared(tmp_path, [{"keypoints": [[1, 2, 3]]}])
    (line,) = (tmp_path / "out" / "rejected.jsonl").read_text().splitlines()
    assert "expected a list of [x, y]" in line
