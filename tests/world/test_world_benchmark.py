"""The world as a benchmark: tasks by seed, settings checked, edits judged by what is in the pixels."""

import numpy as np
import pytest

from earl.cli import main
from earl.config import BenchmarkSettings, EvaluationSettings, SamplingSettings
from earl.data.tasks import TaskSettings
from earl.errors import ConfigError, InstructionError
from earl.evaluation.benchmark import open_benchmark
from earl.evaluation.editors import ModelEditor
from earl.evaluation.run import Judging, evaluate
from earl.pipeline import EditPipeline
from earl.records import Verdict
from earl.world.benchmark import WorldBenchmark, draw_tasks
from earl.world.prompts import WorldTaskSource, chosen_families


class Judge:
    """Gives what it is told, and keeps what it saw."""

    def __init__(self, status="ok"):
        self.status = status
        self.seen = []

    async def judge(self, attempts):
        self.seen += attempts
        if self.status != "ok":
            return [Verdict(self.status) for _ in attempts]
        return [Verdict("ok", 8.0, 8.0, 2.0, 2.0, exact=False, outcome="untouched") for _ in attempts]


def evaluated(pipeline, benchmark, judge, batch=64, **sampling):
    editor = ModelEditor("tiny", lambda: pipeline, sampling=SamplingSettings(seed=benchmark.seed, **sampling))
    judging = Judging(judge, {"kind": "scene"}, window=1)
    return evaluate(None, benchmark, editor, judging, EvaluationSettings(batch=batch))


def images_seen(judge):
    ordered = sorted(judge.seen, key=lambda attempt: attempt.key)
    return np.stack([np.asarray(attempt.edited, int) for attempt in ordered])


def test_tasks_depend_on_the_seed_and_extend():
    few, many = (draw_tasks(WorldBenchmark(num=n, seed=3)) for n in (5, 9))
    assert few == many[:5]
    assert len({task.id for task in many}) == 9
    assert few != draw_tasks(WorldBenchmark(num=5, seed=4))


def test_families_and_splits_are_kept():
    tasks = draw_tasks(WorldBenchmark(num=6, split="heldout", families=("color", "remove")))
    assert {task.family for task in tasks} <= {"color", "remove"}
    assert all(task.id.startswith("heldout") for task in tasks)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"draw": 0}, "num"),
        ({"families": ("colour",)}, "family 'colour'"),
        ({"split": "tset"}, "split = 'tset'"),
        ({"options": {"wordings": "odd"}}, "wordings = 'odd'"),
        ({"options": {"kinds": "fewer"}}, "kinds = 'fewer'"),
        ({"options": {"style": "pencil"}}, "unknown key 'style'"),
        ({"path": "x"}, "world takes no --path"),
        ({"group": "complex"}, "world takes no --group"),
    ],
)
def test_settings_are_checked(given, said):
    with pytest.raises(ConfigError, match=said):
        open_benchmark("world", BenchmarkSettings(**given))


def test_it_is_found_by_name_and_drawn_at_the_editors_area():
    given = BenchmarkSettings(draw=3, options={"wordings": "mixed"})
    benchmark = open_benchmark("world", given, area=32 * 32, seed=7)
    assert benchmark == WorldBenchmark(num=3, seed=7, side=32, wordings="mixed")
    tasks = list(benchmark.tasks())
    assert {task.source.size for task in tasks} == {task.target.size for task in tasks} == {(32, 32)}
    assert [task.id for task in tasks] == [task.id for task in draw_tasks(WorldBenchmark(num=3, seed=7))]
    assert open_benchmark("world", BenchmarkSettings(seed=9), seed=7).seed == 9


def test_few_kinds_are_plain_large_solids():
    tasks = draw_tasks(WorldBenchmark(num=20, seed=3, kinds="few", families=("color", "remove")))
    solids = [solid for task in tasks for solid in task.source.objects]
    assert {solid.size for solid in solids} == {"large"}
    assert len({(solid.shape, solid.color) for solid in solids}) <= 16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--num", "0"], "--num 0: expected at least 1"),
        (["--num", str(2**63)], f"--num {2**63}: expected at least 0, below {2**63}"),
        (["--seed", str(2**63)], f"--seed {2**63}: expected at least 0, below {2**63}"),
        (["--seed", "-1"], "--seed -1: expected at least 0\n"),
        (["--area", "64"], "256 px² or more, not of 64; give a larger --area"),
        (["--option", "kinds=none"], "--option: kinds = 'none': expected 'full' or 'few'"),
    ],
)
def test_settings_out_of_range_name_the_option_and_its_range(words, said, capsys):
    assert main(["evaluate", "world", *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_prompts_of_other_kinds_and_wordings():
    def drawn(**options):
        source = WorldTaskSource(TaskSettings("train", 32, families=("color", "add"), options=options))
        return [source.draw(seed) for seed in range(12)]

    plain, mixed = drawn(), drawn(wordings="mixed")
    assert [task.key for task in plain] == [task.key for task in mixed]
    assert sum(a.instruction != b.instruction for a, b in zip(plain, mixed, strict=True)) > 8
    assert drawn(wordings="mixed")[0].instruction == mixed[0].instruction
    assert [task.source for task in drawn(kinds="few")] != [task.source for task in plain]
    with pytest.raises(ConfigError, match="wordings = 'unseen': expected 'own' or 'mixed'"):
        drawn(wordings="unseen")  # held-out language is not trained on


@pytest.fixture(scope="module")
def pipeline(model_folder):
    return EditPipeline.from_pretrained(model_folder, device="cpu")


def test_a_model_is_evaluated_with_rates_intervals_and_outcomes(pipeline):
    judge = Judge()
    results = evaluated(pipeline, WorldBenchmark(num=5, seed=1), judge, batch=2)
    assert sum(group.n for group in results.groups.values()) == 5
    assert results.score_names[-1] == "exact" and results.all.overall.mean == 4.0
    assert results.all.outcomes == {"untouched": 5} and results.seconds > 0
    assert {"earl", "torch", "transformers"} <= set(results.versions)
    assert {attempt.source.size for attempt in judge.seen} == {(64, 64)}


def test_batch_size_does_not_change_what_is_judged(pipeline):
    seen = []
    for batch in (1, 4):
        evaluated(pipeline, WorldBenchmark(num=4, seed=2), judge := Judge(), batch)
        seen.append(images_seen(judge))
    assert np.abs(seen[0] - seen[1]).max() <= 1  # rounding


def test_guidance_reaches_the_pipeline_and_is_written_down(pipeline):
    seen = []
    for given in ({}, {"guidance": 4.0}, {"guidance": 4.0, "negative_instruction": "make it night"}):
        judge = Judge()
        editor = evaluated(pipeline, WorldBenchmark(num=3, seed=2), judge, greedy=True, **given).editor
        assert {name: editor[name] for name in given} == given
        assert ("guidance" in editor) == bool(given)
        seen.append(images_seen(judge).tobytes())
    assert len(set(seen)) == 3


def test_an_edit_that_the_verifier_refuses_does_not_cost_the_others_theirs(pipeline):
    benchmark = WorldBenchmark(num=3, seed=5)
    first = next(iter(benchmark.tasks())).key

    class Picky(Judge):
        async def judge(self, attempts):
            if any(attempt.key == first for attempt in attempts):
                raise InstructionError("speaks of something that is not there")
            return await super().judge(attempts)

    results = evaluated(pipeline, benchmark, Picky())
    assert results.all.judged == 2 and results.all.left_out == {"unusable": 1}


def test_failed_verdicts_are_counted_and_never_0(pipeline):
    results = evaluated(pipeline, WorldBenchmark(num=2), Judge("unusable"))
    assert results.all.left_out == {"unusable": 2} and results.all.overall is None


def test_what_fixes_the_tasks_has_no_division_of_the_benchmarks_own():
    described = WorldBenchmark(num=3, kinds="few", wordings="mixed").describe()
    assert described["options"] == {"wordings": "mixed", "kinds": "few"}
    assert "kinds" not in described, "the key of a benchmark's own division: every family would lack one"


def test_sentences_that_ask_for_nothing_are_prompts_where_they_are_named():
    settings = TaskSettings("train", 64, families=("other",), options={"wordings": "mixed"})
    task = WorldTaskSource(settings).draw(3)
    assert task.family == task.group == "other" and task.source.tobytes() == task.target.tobytes()
    assert "other" not in chosen_families("all", ())
    with pytest.raises(ConfigError, match="no edit family is both simple"):
        chosen_families("simple", ("other",))
