"""A small prepared set whose images are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from earl.data.shards import PART, Edit, start_folder, write_shard
from earl.records import Box

CHAIN = {
    "source": "The image shows a grey wall with nothing on it.",
    "object": "The edit is about a new red square.",
    "region": [[8, 8, 24, 24]],
    "change": "A red square appears on the wall",
    "result": "The image shows a grey wall with a red square.",
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
    """An edit of 8x6 cells of which the cells (2-3, 2-3) change; `changed` is grown by a cell."""
    source = np.full((6, 8), 100 + number, np.int32)
    target, changed = source.copy(), np.zeros((6, 8), bool)
    target[2:4, 2:4] = 200
    changed[1:5, 1:5] = True
    values = {"boxes": (Box(16, 16, 32, 32),), "family": "add", "group": "simple", "licence": "MIT", **more}
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
