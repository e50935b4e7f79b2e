"""The same seeds give the same edits, from one version of the package to the next.

Data sets, benchmarks and the held-out split all rest on it. If a change of the world is meant,
the digests change with it, and the changelog says so.
"""

import hashlib
import json

import pytest

from earl.world.families import FAMILIES
from earl.world.tasks import SPLITS, sample_group, sample_task

GOLDEN = {"families": "88a5a455675de006", "groups": "1623a34191a9f19a"}


def digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def of_every_family() -> list[object]:
    tasks = [sample_task(seed, "train", [family]) for family in FAMILIES for seed in range(3)]
    return [
        [
            task.instruction,
            task.reasoning,
            task.source.to_dict(),
            task.target.to_dict(),
            [[float(v) for v in (box.left, box.top, box.right, box.bottom)] for box in task.boxes],
        ]
        for task in tasks
    ]


def of_every_split() -> list[object]:
    return [[t.instruction for t in sample_group(seed, split)] for seed in range(25) for split in SPLITS]


@pytest.mark.parametrize(("name", "make"), [("families", of_every_family), ("groups", of_every_split)])
def test_edits_are_what_they_were(name, make):
    assert digest(make()) == GOLDEN[name]
