"""The matrix on a tiny model and a budget of seconds: trained, evaluated, cached, resumed, refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from earl.cli import main
from earl.config.recipe import check, load_recipe
from earl.config.reproduce import Budget
from earl.config.stages import GrpoRecipe, SftRecipe
from earl.errors import ConfigError
from earl.reproduce import CELLS, Matrix
from earl.reproduce.recipes import grpo_recipe, sft_recipe
from earl.reproduce.scores import Drawer
from earl.reproduce.timing import TimeLimit

ROOT = Path(__file__).parents[2]
MICRO = {
    "device": "cpu",
    "compute": "float32",
    "data": {"sources": 3, "validation": 2},
    "sft": {"steps": 2, "sequences": 4, "micro": 4, "share": 2, "warmup_steps": 0},
    "rl": {"steps": 1, "prompts": 2, "group": 2, "heldout": 0, "scale": 2.0},
    "evaluation": {"num": 2, "best_of": 2},
}
CHOSEN = ("rl-sc", "sft-s-best", "rl-sc-noise")


def budget(**more) -> Budget:
    return check(Budget, MICRO | more)


@pytest.fixture(scope="module")
def made(model_folder, tmp_path_factory) -> Path:
    """The chosen cells, and what they start from."""
    folder = tmp_path_factory.mktemp("matrix")
    Matrix(folder, budget(), start=str(model_folder), names=CHOSEN).run(lambda line: None)
    return folder


def matrix(folder: Path, model_folder: Path, **more) -> Matrix:
    return Matrix(folder, more.pop("budget", budget()), start=str(model_folder), **({"names": CHOSEN} | more))


def test_every_cell_is_an_ordinary_run(made, model_folder):
    for name, schema in (("sft-s", SftRecipe), ("rl-sc", GrpoRecipe), ("rl-sc-noise", GrpoRecipe)):
        folder = made / "seed-0" / name
        recipe = load_recipe(schema, folder / "recipe.toml")
        assert (folder / "model" / "earl.json").is_file() and (folder / "log.jsonl").is_file()
        assert json.loads((folder / "cell.json").read_text())["trained"] is True
        assert recipe.run.seed == 0
    assert recipe.verifier.noise == 3.0 and recipe.model.start.endswith("seed-0/sft-s/model")
    scores = matrix(made, model_folder).scores()
    assert set(scores) == {"start", "sft-s", *CHOSEN}
    assert set(matrix(made, model_folder).missing()) == set(CELLS) - set(scores)
    assert all(len(report[0]["tasks"]) == 2 for report in scores.values())
    tasks = {name: list(report[0]["tasks"]) for name, report in scores.items()}
    assert len({tuple(ids) for ids in tasks.values()}) == 1, "all cells are judged on the same tasks"


def test_what_is_there_is_not_made_again(made, model_folder, monkeypatch):
    def never(*_, **__):
        raise AssertionError("made again")

    for name in (
        "earl.training.sft.sft.train_sft",
        "earl.training.grpo.stage.train_grpo",
        "earl.reproduce.scores.evaluate_model",
    ):
        monkeypatch.setattr(name, never)
    again = matrix(made, model_folder)
    assert {state for _, state in again.plan()} == {"done"}
    assert again.run(lambda line: None) and again.forecast().lines() == []
    monkeypatch.setattr("earl.training.loop.Trainer.run", never)
    assert again.run(lambda line: None, minutes=1e-9), "nothing is left to cut short"


def test_other_cells_of_the_folder_are_shown_too(made, model_folder):
    other = matrix(made, model_folder, names=("rl-c",))
    assert {job.cell.name: state for job, state in other.plan()}["rl-c"].startswith("train")
    assert set(other.scores()) == {"start", "sft-s", *CHOSEN}
    more = matrix(made, model_folder, seeds=(0, 1))
    assert set(more.scores()) == {"start"}, "a mean over some of the seeds would pass for one over all"
    assert more.missing()["rl-sc"] == "1 of 2 seeds" and more.missing()["rl-c"] == "not run"


def test_the_forecast_is_of_what_was_measured(made, model_folder, tmp_path):
    fresh = matrix(tmp_path, model_folder)
    assert fresh.forecast().lines() == ["time: not known, no work of these kinds has been measured here yet"]
    record = json.loads((made / "seed-0" / "sft-s" / "cell.json").read_text())
    assert record["steps"] == 2 and 0 < record["seconds"] < 600
    found = matrix(made, model_folder, names=("sft-sc", "rl-c", "think-s")).forecast()
    assert found.rates["sft"] == (record["seconds"] / 2, "step")
    assert found.counted == ("sft-sc, seed 0", "rl-c, seed 0") and found.unknown == ("think-s, seed 0",)
    rates = {kind: rate for kind, (rate, _) in found.rates.items()}
    assert set(rates) == {"sft", "grpo", "evaluation"}
    assert found.seconds == pytest.approx(2 * rates["sft"] + rates["grpo"] + 4 * rates["evaluation"])
    assert "think-s" in found.lines()[1]
    scaled = matrix(made, model_folder, names=("rl-sc-scaled",)).forecast()
    assert scaled.seconds == pytest.approx(2 * rates["grpo"] + 2 * rates["evaluation"])


def test_a_time_limit_cuts_training_short_and_it_goes_on(made, model_folder, tmp_path):
    """The limit passes in the middle of training: a checkpoint, no score; later the rest."""
    given = {"sft-s": str(made / "seed-0" / "sft-s" / "model")}
    long = budget(rl=MICRO["rl"] | {"steps": 40}, checkpoint_every=40)

    def cell() -> Matrix:
        return matrix(tmp_path, model_folder, budget=long, given=given, names=("rl-s",))

    said: list[str] = []
    assert not cell().run(said.append, minutes=1e-6)
    assert "minutes are over" in said[-1] and not (tmp_path / "seed-0").exists(), "nothing was begun"

    class Limit(TimeLimit):  # over once the log has a step, wherever this machine is by then
        over = property(lambda self: (tmp_path / "seed-0" / "rl-s" / "log.jsonl").exists())  # type: ignore[assignment]

    done = cell()
    job = next(job for job in done.jobs() if job.cell.name == "rl-s")
    assert not done._train(job, Limit(60.0))
    record = json.loads((job.folder / "cell.json").read_text())
    assert record["trained"] is False and record["reason"] == "asked to stop"
    assert 0 < record["steps"] == record["step"] < 40
    states = {job.cell.name: state for job, state in cell().plan()}
    assert states["rl-s"] == "go on with training (grpo, 40 steps)"
    work = next(work for work in cell()._left(job) if work.unit == "step")
    assert work.units == 40 - record["step"], "the forecast counts the rest"


def test_another_benchmark_trains_nothing_anew(made, model_folder):
    other = matrix(made, model_folder, budget=budget(evaluation={"num": 3, "best_of": 2}))
    assert {state for _, state in other.plan()} == {"evaluate"}


def test_a_cell_of_another_budget_is_left_alone(made, model_folder):
    other = matrix(made, model_folder, budget=budget(sft=MICRO["sft"] | {"learning_rate": 0.5}))
    with pytest.raises(ConfigError, match=r"sft-s was made with another budget.*--out"):
        other.run(lambda line: None)
    assert json.loads((made / "seed-0" / "sft-s" / "cell.json").read_text())["trained"] is True


def test_a_cell_that_was_cut_short_goes_on(made, model_folder):
    folder = made / "seed-0" / "rl-sc-noise"
    record = json.loads((folder / "cell.json").read_text())
    (folder / "cell.json").write_text(json.dumps(record | {"trained": False}))
    scores = next(folder.glob("scores-*.json"))
    before = json.loads(scores.read_text())["tasks"]
    scores.unlink()
    again = matrix(made, model_folder)
    states = {job.cell.name: state for job, state in again.plan()}
    assert states["rl-sc-noise"] == "go on with training (grpo, 1 steps)" and states["rl-sc"] == "done"
    again.run(lambda line: None)
    assert json.loads(scores.read_text())["tasks"] == before


def test_a_cell_that_was_asked_to_stop_is_not_done(made, model_folder, tmp_path, monkeypatch):
    from earl.training.loop import Report

    monkeypatch.setattr(
        "earl.training.grpo.stage.train_grpo", lambda recipe: Report(1, 1, "asked to stop", 0.0)
    )
    given = {"sft-s": str(made / "seed-0" / "sft-s" / "model")}
    other = matrix(tmp_path, model_folder, given=given, names=("rl-s",))
    monkeypatch.setattr(other, "_evaluate", lambda job, note: None)
    with pytest.raises(KeyboardInterrupt):
        other.run(lambda line: None)
    assert {job.cell.name: state for job, state in other.plan()}["rl-s"].startswith("go on with")


def test_given_models_need_no_training(made, model_folder, tmp_path):
    given = {"sft-s": str(made / "seed-0" / "sft-s" / "model")}
    other = matrix(tmp_path, model_folder, given=given, names=("sft-s-best", "rl-s"), seeds=(1, 2))
    states = {job.name: state for job, state in other.plan()}
    assert states == {
        "sft-s": "evaluate",
        "sft-s-best": "evaluate",
        "rl-s, seed 1": "train (grpo, 1 steps) and evaluate",
        "rl-s, seed 2": "train (grpo, 1 steps) and evaluate",
    }


def test_the_command_prints_plan_tables_and_claims(made, model_folder, tmp_path, capsys):
    file = tmp_path / "micro.toml"
    lines = [f"{k} = {json.dumps(v)}" for k, v in MICRO.items() if not isinstance(v, dict)]
    for name, section in MICRO.items():
        if isinstance(section, dict):
            lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in section.items())]
    file.write_text("\n".join(lines))
    words = ["reproduce", "world", "--out", str(made), "--start", str(model_folder), "--budget", str(file)]
    assert main([*words, "--cells", *CHOSEN]) == 0
    said = capsys.readouterr().out
    assert "5 cells in" in said and "| model |" in said and "not run" in said
    assert (made / "tables.md").read_text() in said
    assert set(json.loads((made / "results.json").read_text())["cells"]) == {"start", "sft-s", *CHOSEN}
    assert main([*words, "--plan", "--set", "rl.steps=7", "--cells", "rl-c"]) == 0
    said = capsys.readouterr().out
    assert "rl-c, seed 0   train (grpo, 7 steps) and evaluate" in said and "\ntime: about" in said
    assert main([*words, "--tables", "--cells", "rl-c"]) == 0
    said = capsys.readouterr().out
    assert "| SFT S → RL S+C (1 seed) |" in said and "- `rl-c`, SFT S → RL C: not run" in said
    assert "| Reasoning does not help | **not run** |" in said
    assert json.loads((made / "results.json").read_text())["missing"]["rl-c"] == "not run"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--cells", "rl-sc-scale"], "rl-sc-scaled"),
        (["--given", "sft-s"], "CELL=MODEL"),
        (["--given", "rl-sc-best=world"], "rl-sc"),
        (["--set", "rl.stesp=3"], "rl.steps"),
        (["--seeds", "1", "1"], "each once"),
        (["--budget", "none.toml"], "none.toml"),
        (["--tables"], "holds no scores"),
    ],
)
def test_mistakes_are_one_sentence(words, what, model_folder, tmp_path, capsys):
    assert (
        main(["reproduce", "world", "--out", str(tmp_path / "x"), "--start", str(model_folder), *words]) == 2
    )
    said = capsys.readouterr().err
    assert what in said and said.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_every_cell_has_a_recipe_that_fits():
    whole = load_recipe(Budget, ROOT / "recipes" / "world" / "reproduce.toml")
    for cell in CELLS.values():
        if cell.kind == "sft":
            recipe = sft_recipe(cell, whole, seed=1, folder=Path("a"), start="world", data=Path("d"))
            wanted = {"simple": {"simple"}, "all": {"simple", "complex"}}[cell.edits]
            assert set(recipe.data.sources) == wanted and recipe.data.reasoning == cell.reasoning
        elif cell.kind == "grpo":
            rl = grpo_recipe(cell, whole, seed=1, folder=Path("a"), start="world")
            assert rl.prompts.group == cell.edits and rl.verifier.blind == cell.blind
            assert rl.length.steps == round(whole.rl.steps * (whole.rl.scale if cell.scaled else 1))
            assert (rl.verifier.second is not None) == (cell.table == "weak")
            assert rl.rollouts.prefill == ("reasoning" if cell.reasoning else "size")


def test_reasoning_and_best_of_reach_the_pipeline():
    class Result:
        def __init__(self, count):
            self.count = count

    class Pipeline:
        vision, name, seen = object(), "x", {}

        def edit_many(self, pairs, **options):
            self.seen.update(options)
            return [Result(options["num_images"]) for _ in pairs]

    pipeline = Pipeline()
    drawer = Drawer(pipeline, count=1, reasoning=True, verifier=None)
    assert len(drawer.edit_many([1, 2], seeds=[0, 1], greedy=False)) == 2
    assert pipeline.seen == {"num_images": 1, "reasoning": True, "seeds": [0, 1], "greedy": False}


def test_kinship_and_schedule_of_the_budget_reach_the_recipes():
    asked = budget(
        sft=MICRO["sft"] | {"neighbours": 24, "targets": 0.7},
        rl=MICRO["rl"]
        | {"schedule": "cosine", "betas": [0.9, 0.99], "neighbours": 12, "targets": 0.5}
        | {"divide_by_std": False, "importance_range": [0.2, 5.0]},
    )
    for settings, neighbours, schedule, beta, shared, ratios in (
        (asked, 24, "cosine", 0.99, (0.7, 12, 0.5), (0.2, 5.0)),
        (budget(), 0, "constant", 0.999, None, None),
    ):
        sft = sft_recipe(CELLS["sft-s"], settings, seed=0, folder=Path("a"), start="world", data=Path("d"))
        assert (sft.kinship.neighbours if sft.kinship else 0) == neighbours
        rl = grpo_recipe(CELLS["rl-sc"], settings, seed=0, folder=Path("a"), start="world")
        assert rl.schedule.name == schedule and rl.optimiser.betas[1] == beta
        assert rl.grpo.divide_by_std == (ratios is None) and rl.grpo.importance_range == ratios
        if shared is None:
            assert sft.kinship is None and rl.kinship is None
        else:
            assert sft.kinship and rl.kinship
            assert (sft.kinship.targets, rl.kinship.neighbours, rl.kinship.targets) == shared


@pytest.mark.parametrize("section", ["sft", "rl"])
def test_targets_without_neighbours_are_refused(section):
    with pytest.raises(ConfigError, match=rf"{section}\.targets = 0\.7 needs .*{section}\.neighbours"):
        budget(**{section: MICRO[section] | {"targets": 0.7}})


def test_the_margin_of_the_budget_reaches_the_shards(made):
    manifest = json.loads((made / "data" / "simple" / "shards.json").read_text())
    assert manifest["margin"] == 0
