import numpy as np
import pytest
from PIL import Image

from earl.errors import ConfigError, InstructionError
from earl.pipeline import EditPipeline
from earl.records import Verdict
from earl.world.benchmark import WorldBenchmark, draw_tasks, evaluate_world


class Judge:
    """Gives what it is told, and keeps what it saw."""

    def __init__(self, status="ok"):
        self.status = status
        self.seen = []

    async def judge(self, attempts):
        self.seen += attempts
        if self.status != "ok":
            return [Verdict(self.status) for _ in attempts]
        return [Verdict("ok", 8.0, 8.0, 2.0, 2.0, exact=False) for _ in attempts]


def test_tasks_depend_on_the_seed_and_extend():
    few, many = (draw_tasks(WorldBenchmark(num=n, seed=3)) for n in (5, 9))
    assert few == many[:5]
    assert len({task.id for task in many}) == 9
    assert few != draw_tasks(WorldBenchmark(num=5, seed=4))


def test_families_and_splits_are_kept():
    tasks = draw_tasks(WorldBenchmark(num=6, split="heldout", families=("color", "remove")))
    assert {task.family for task in tasks} <= {"color", "remove"}
    assert all(task.id.startswith("heldout") for task in tasks)


@pytest.mark.parametrize("wrong", [{"num": 0}, {"batch": 0}, {"families": ("colour",)}])
def test_settings_are_checked(wrong):
    with pytest.raises(ConfigError):
        WorldBenchmark(**wrong)


@pytest.fixture(scope="module")
def pipeline(model_folder):
    return EditPipeline.from_pretrained(model_folder, device="cpu")


def test_report_has_the_form_that_readers_rely_on(pipeline, model_folder):
    judge = Judge()
    report = evaluate_world(pipeline, WorldBenchmark(num=5, seed=1, batch=2), verifier=judge)
    assert {"simple", "complex", "families", "model", "seed", "versions"} <= set(report)
    assert report["simple"]["n"] + report["complex"]["n"] == 5
    assert report["model"] == str(model_folder)
    assert report["seed"] == 1
    assert {"earl", "torch", "transformers", "python"} <= set(report["versions"])
    for summary in report["families"].values():
        assert {"group", "n", "exact", "overall", "edit_success", "exact_interval"} <= set(summary)
        assert summary["overall"] == 4.0
    assert len(judge.seen) == 5
    assert all(isinstance(attempt.edited, Image.Image) for attempt in judge.seen)
    assert {attempt.source.size for attempt in judge.seen} == {(64, 64)}


def test_batch_size_does_not_change_what_is_judged(pipeline):
    pictures = []
    for batch in (1, 4):
        judge = Judge()
        evaluate_world(pipeline, WorldBenchmark(num=4, seed=2, batch=batch), verifier=judge)
        pictures.append(np.stack([np.asarray(attempt.edited, int) for attempt in judge.seen]))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1  # rounding


def test_guidance_reaches_the_pipeline_and_is_written_down(pipeline):
    pictures = []
    for given in ({}, {"guidance": 4.0}, {"guidance": 4.0, "negative_instruction": "make it night"}):
        judge, benchmark = Judge(), WorldBenchmark(num=3, seed=2, greedy=True, **given)
        settings = evaluate_world(pipeline, benchmark, verifier=judge)["settings"]
        assert settings["guidance"] == given.get("guidance", 1.0)
        assert settings["negative_instruction"] == given.get("negative_instruction")
        pictures.append(b"".join(attempt.edited.tobytes() for attempt in judge.seen))
    assert len(set(pictures)) == 3


def test_an_edit_that_the_verifier_refuses_does_not_cost_the_others_theirs(pipeline):
    class Picky(Judge):
        async def judge(self, attempts):
            if any(attempt.key == first for attempt in attempts):
                raise InstructionError("speaks of something that is not there")
            return await super().judge(attempts)

    benchmark = WorldBenchmark(num=3, seed=5)
    first = draw_tasks(benchmark)[0].id
    report = evaluate_world(pipeline, benchmark, verifier=Picky())
    assert sum(report[group]["failed"] for group in ("simple", "complex")) == 1
    assert sum(report[group]["judged"] for group in ("simple", "complex")) == 2


def test_failed_verdicts_are_counted(pipeline):
    report = evaluate_world(pipeline, WorldBenchmark(num=2), verifier=Judge("unusable"))
    both = [report["simple"], report["complex"]]
    assert sum(part["failed"] for part in both) == 2
    assert all(part["overall"] is None for part in both)
