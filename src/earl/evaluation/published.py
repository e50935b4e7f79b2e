"""Tables of results, as published: the paper's six benchmarks, and later ones.

The paper's: VIEScore overall, judged by gpt-4o-mini (EARL, "The Promise of RL for Autoregressive Image
Editing", arXiv 2508.01119). S simple, C complex edits. The mean is over the six benchmarks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from earl.config.evaluation import Failures

JUDGE = "gpt-4o-mini-2024-07-18"
COLUMNS = ("OmniEdit", "EmuEdit", "AURORA", "MagicBrush", "VisMin", "I2EBench")

_ROWS = """
MagicBrush (SD 1.5)           3.43 3.28 3.01 3.64 3.48 3.06 3.32
InstructPix2Pix               3.97 3.24 3.05 3.12 2.94 3.23 3.26
Aurora                        4.50 4.40 4.12 4.62 3.82 3.58 4.17
EditAR                        5.29 3.88 3.79 3.84 4.54 3.84 4.20
OmniGen                       5.68 5.00 4.10 4.68 4.09 4.68 4.70
SFT S                         5.73 3.66 3.58 3.19 3.57 3.59 3.88
SFT S+C                       4.64 2.89 2.81 2.89 3.91 2.77 3.32
SFT S+C two-stage             4.23 3.29 3.60 3.40 4.56 3.07 3.69
SFT S → RL S                  6.07 4.13 3.47 3.53 3.34 3.80 4.06
SFT S → RL C                  5.94 4.12 3.84 3.92 4.09 3.90 4.30
SFT S → RL S+C                6.33 4.28 3.99 4.26 4.48 4.08 4.57
SFT S+C → RL C                4.89 3.80 3.21 3.86 4.71 3.26 3.95
SFT S+C → RL S+C              5.70 4.09 3.97 4.35 4.97 3.84 4.49
two-stage → RL C              4.21 3.16 3.05 3.33 4.16 2.99 3.48
two-stage → RL S+C            5.29 3.89 3.85 4.20 4.70 3.56 4.25
EARL: SFT S → RL S+C, scaled  6.39 4.47 4.27 4.52 4.93 4.19 4.80
SFT think S                   4.34 3.76 2.88 3.36 3.46 3.21 3.50
SFT think two-stage           1.44 1.41 1.03 1.58 2.45 1.20 1.52
think S → RL S                4.99 3.73 3.33 3.48 3.11 3.46 3.68
think S → RL C                4.36 3.67 2.94 3.59 3.08 3.16 3.47
think S → RL S+C              4.65 3.78 3.23 3.67 3.39 3.36 3.68
SFT S, best of 5              6.13 4.21 3.89 3.63 4.09 4.00 4.33
SFT S → RL S+C, best of 5     6.54 4.66 4.08 4.66 4.69 4.36 4.83
"""

_GEDIT = """
Instruct-Pix2Pix         3.68
MagicBrush               4.52
OmniGen                  5.06
OmniGen2                 6.41
BAGEL                    6.52
FLUX.1 Kontext Pro       6.56 5.36
Step1X-Edit v1.1         6.97 6.50
GPT-4o                   7.53 7.30
Qwen-Image               7.56 7.52
"""
_IMGEDIT = """
Instruct-Pix2Pix         1.88
MagicBrush               1.90
AnyEdit                  2.45
UltraEdit                2.70
OmniGen                  2.96
ICEdit                   3.05
Step1X-Edit              3.06
BAGEL                    3.20
UniWorld-V1              3.26
OmniGen2                 3.44
Ovis-U1                  4.00
GPT-4o                   4.20
Qwen-Image               4.27
"""


@dataclass(frozen=True, slots=True)
class Published:
    """A model's row: overall score 0-10 by column, and the mean of the paper's six."""

    model: str
    scores: Mapping[str, float]
    mean: float | None
    judge: str
    questions: str
    failures: Failures


def _parse(
    table: str, columns: tuple[str, ...], who: tuple[str, str, Failures], scale: float = 1.0
) -> Iterator[Published]:
    for line in table.strip().splitlines():
        name, *words = re.split(r"\s+(?=\d\.\d\d)", line)
        numbers = [scale * float(word) for word in words]
        mean = numbers.pop() if columns == COLUMNS else None
        yield Published(name, MappingProxyType(dict(zip(columns, numbers, strict=False))), mean, *who)


PUBLISHED: tuple[Published, ...] = tuple(_parse(_ROWS, COLUMNS, (JUDGE, "viescore", "as-released")))
LATER: tuple[Published, ...] = (
    *_parse(_GEDIT, ("GEdit-Bench-EN", "GEdit-Bench-CN"), ("GPT-4.1", "viescore", "exclude")),
    *_parse(_IMGEDIT, ("ImgEdit-Bench",), ("GPT-4o", "imgedit, doubled", "exclude"), scale=2.0),
)
"""GEdit-Bench: VIEScore overall, the mean of the eleven tasks' means (arXiv 2504.17761, 2505.14683,
2506.18871, 2508.02324). ImgEdit-Bench: the mean of three scores of 1 to 5 and of the nine types, doubled here
(arXiv 2505.20275, 2506.18871, 2508.02324)."""
