"""MagicBrush test: real-world requests in up to three turns on one image, with target images.

The publisher's folder tells an edit's turn (`ID-output2.png`), which is then its family. Each turn
is an edit of its own here, made from the turn's own source image.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from earl.evaluation.benchmark import DeclaredBenchmark

if TYPE_CHECKING:
    from earl.data.sources import Sample

SCHEMA = "magicbrush-test"


def family_of(sample: Sample) -> str:
    """ "turn 2", or the data set's name where rows do not tell their turn."""
    turn = None if sample.id.startswith(f"{SCHEMA}-") else re.search(r"-(\d)$", sample.id)
    return f"turn {turn[1]}" if turn else sample.family


BENCHMARK = DeclaredBenchmark(
    name="magicbrush",
    title="MagicBrush",
    schema=SCHEMA,
    column="MagicBrush",
    about="real-world requests in turns; has targets",
    family_of=family_of,
)
