"""Settings of an evaluation: benchmark, stages, best of N, metrics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from pydantic import Field

from earl.config.data import HoldoutSettings, SourceSettings
from earl.config.settings import Count, Settings
from earl.records import SizeRule

Stage = Literal["edits", "verdicts", "tables"]
LearnedMetric = Literal["lpips", "clip", "fid", "pie"]
Failures = Literal["exclude", "as-released"]


class BenchmarkSettings(SourceSettings, HoldoutSettings):
    """Settings of a benchmark; one that does not take a setting refuses it.

    `draw` is the number of tasks. `seed`, of their draw, is the paper's; the world takes the sampling seed
    where none is given.
    """

    families: tuple[str, ...] = Field(default=(), description="only these edit families")
    options: dict[str, Any] = Field(
        default_factory=dict, description="the benchmark's own settings, as wordings of the world"
    )


BENCHMARK_OPTIONS = {name: name.replace("_", "-") for name in BenchmarkSettings.model_fields} | {
    "draw": "num",
    "seed": "draw-seed",
    "columns": "map",
    "options": "option",
}
"""Names on the command line, by field."""


class EvaluationSettings(Settings):
    """How each task of a benchmark is edited, and how far an evaluation goes."""

    name: str | None = Field(
        default=None, description="what is evaluated, in tables (default: the model or the folder)"
    )
    area: int | None = Field(
        default=None, ge=64, le=2**28, description="px² of the images (default: the model's own)"
    )
    size: SizeRule = Field(
        default="snap",
        description="how sides of --predictions are rounded: as the models do that they are compared with",
    )
    best_of: int = Field(default=1, ge=1, le=64, description="images drawn for a task; the best is kept")
    batch: Count = Field(default=16, description="edits made together; a matter of speed")
    until: Stage = Field(default="tables", description="last stage of this run")
    ask_again: bool = Field(
        default=False, description="ask again where the verifier's answer could not be used"
    )
    failures: Failures = Field(
        default="exclude",
        description="exclude: an unusable answer or a missing image is in no mean; as-released: the answer "
        "counts as 0, and a white image of 256x256 is judged in place of one that is missing",
    )
    metrics: tuple[LearnedMetric, ...] = Field(
        default=(),
        description="learned metrics beside PSNR, SSIM and L1 to the target; pie: PIE-Bench's structure "
        "distance and CLIP scores",
    )
    clip_model: str | None = Field(
        default=None, description="folder or cached hub id, for the metrics clip and pie"
    )
    dino_model: str | None = Field(default=None, description="folder or cached hub id, for the metric pie")

    def problems(self) -> Iterator[str]:
        if self.clip_model is not None and not {"clip", "pie"} & {*self.metrics}:
            yield "clip_model is for the metric clip: name it in metrics, or leave both out"
        if self.dino_model is not None and "pie" not in self.metrics:
            yield "dino_model is for the metric pie: name it in metrics, or leave both out"
