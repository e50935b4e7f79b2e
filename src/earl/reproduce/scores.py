"""The world benchmark on a cell's model, task by task, so that cells can be compared in pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from earl.config.reproduce import EvaluationBudget
from earl.errors import VerifierError
from earl.evaluation.report import Judged
from earl.pipeline import EditPipeline, EditResult, Verifier, best_of
from earl.records import SCORE_PARTS
from earl.world.benchmark import WorldBenchmark, evaluate_world
from earl.world.verifier.scene import SceneVerifier

MEASURES = ("overall", *SCORE_PARTS, "exact")


class Drawer:
    """A pipeline that reasons first, or draws several edits and keeps the one the verifier likes best.

    The benchmark sees it as any other pipeline. The verifier that picks is the one that the
    benchmark judges with: best-of-N is as good here as it can be.
    """

    def __init__(self, pipeline: EditPipeline, *, count: int, reasoning: bool, verifier: Verifier) -> None:
        self.pipeline, self.count, self.reasoning, self.verifier = pipeline, count, reasoning, verifier
        self.vision, self.name = pipeline.vision, pipeline.name

    def edit_many(self, pairs: Sequence[Any], **options: Any) -> list[EditResult]:
        """As `EditPipeline.edit_many`, with one image for each pair."""
        drawn = self.pipeline.edit_many(pairs, num_images=self.count, reasoning=self.reasoning, **options)
        return [self._best(result) for result in drawn] if self.count > 1 else drawn

    def _best(self, result: EditResult) -> EditResult:
        try:
            return best_of(result, self.verifier)[0]
        except VerifierError:  # not one could be judged: the first stands for them
            return result.only(0)


def evaluate_model(
    model: str,
    settings: EvaluationBudget,
    *,
    device: str,
    count: int = 1,
    reasoning: bool = False,
    on_batch: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Run the benchmark.

    Args:
        count: images drawn of each task, of which the best is kept.

    Returns:
        "tasks": by task id "family", "group", "status" and the six measures (None where the verdict
        failed); "report": what `evaluate_world` gives.
    """
    verifier = SceneVerifier()
    pipeline: Any = EditPipeline.from_pretrained(model, device=device)
    if count > 1 or reasoning:
        pipeline = Drawer(pipeline, count=count, reasoning=reasoning, verifier=verifier)
    benchmark = WorldBenchmark(num=settings.num, seed=settings.seed, batch=settings.batch, top_k=0)
    judged: list[Judged] = []

    def note(done: int, total: int, edits: Sequence[Judged]) -> None:
        judged[:] = edits
        if on_batch:
            on_batch(done, total)

    report = evaluate_world(cast(EditPipeline, pipeline), benchmark, verifier=verifier, on_batch=note)
    return {"tasks": {edit.task: _row(edit) for edit in judged}, "report": report}


def _row(edit: Judged) -> dict[str, Any]:
    scores = {name: round(edit.score(name), 4) if edit.counts else None for name in MEASURES}
    return {"family": edit.family, "group": edit.group, "status": edit.verdict.status} | scores
