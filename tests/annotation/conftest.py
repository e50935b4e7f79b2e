"""A small prepared set whose pictures are known, and the scripted endpoint of the judge's tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "verifier"))

from earl.data.shards import PART, Edit, start_folder, write_shard
from earl.records import Box

CHAIN = {
    "source": "The picture shows a grey wall with nothing on it.",
    "object": "The edit is about a new red square.",
    "region": [[8, 8, 24, 24]],
    "change": "A red square appears on the wall",
    "result": "The picture shows a grey wall with a red square.",
}


def chain(**changes) -> str:
    return json.dumps({**CHAIN, **changes})


class Flat:
    """A tokenizer for which every code is a level of grey: it decodes cells of one colour."""

    def decode(self, codes):
        return [
            Image.fromarray(np.repeat(np.repeat(c, 8, 0), 8, 1).astype(np.uint8)).convert("RGB")
            for c in codes
        ]

    def fingerprint(self):
        return "flat"


def edit(number: int, **more) -> Edit:
    """An edit of 8x6 cells of which the cells (1-2, 1-2) change; `changed` is grown by a cell."""
    source = np.full((6, 8), 100 + number, np.int32)
    target, changed = source.copy(), np.zeros((6, 8), bool)
    target[1:3, 1:3] = 200
    changed[0:4, 0:4] = True
    values = {"boxes": (Box(8, 8, 24, 24),), "family": "add", "group": "simple", "licence": "MIT", **more}
    return Edit(
        id=f"e{number}",
        source=f"s{number}",
        source_codes=source,
        target_codes=values.pop("target_codes", target),
        changed=changed,
        instruction=values.pop("instruction", f"add square {number}"),
        reasoning="",
        **values,
    )


def write_set(folder: Path, shards: list[list[Edit]]) -> Path:
    start_folder(folder, {"fingerprint": "flat", "codebook_size": 256, "area": 64 * 48, "split": "train"})
    for number, edits in enumerate(shards):
        attached = {PART: json.dumps({"first": 0, "edits": len(edits), "rejected": 0})}
        write_shard(folder, number, edits, split="train", attached=attached)
    return folder


@pytest.fixture
def prepared(tmp_path) -> Path:
    """Two shards of three edits; the second has one without a target."""
    last = edit(5, target_codes=np.zeros((0, 0), np.int32))
    return write_set(tmp_path / "in", [[edit(i) for i in range(3)], [edit(3), edit(4), last]])
