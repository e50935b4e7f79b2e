"""The paper's comparison: claims and tables from made-up scores, and a small one from end to end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from earl.cli import main
from earl.config.stages import GrpoRecipe, SftRecipe, load_stage
from earl.evaluation.records import EditRecord
from earl.evaluation.scores import Scored
from earl.files import write_json
from earl.models.weight_files import fingerprint
from earl.records import Verdict

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments"))

import power  # noqa: E402
import reproduce  # noqa: E402
import tables  # noqa: E402
import variances  # noqa: E402

TASKS = 60
SFT = [
    "length.max_steps=2",
    "batch.global_size=4",
    "batch.micro_size=4",
    "batch.share=2",
    "schedule.warmup_steps=0",
]
SFT += ["checkpoint.every=2", "precision.compute=float32"]
RL = [
    "length.max_steps=1",
    "batch.global_size=4",
    "batch.micro_size=2",
    "rollouts.group=2",
    "schedule.warmup_steps=0",
]
RL += ["heldout.prompts=2", "precision.compute=float32", "rollouts.decode=float32"]


def run(level: float, seed: int = 0, spread: float = 1.0) -> dict[str, Scored]:
    """A cell's scores: the same difficulties for all cells, a level of its own, a little noise."""
    hard = np.random.default_rng(99).normal(0, spread, TASKS)
    own = np.random.default_rng(seed).normal(0, 0.1, TASKS)
    found = {}
    for index in range(TASKS):
        value = float(level + hard[index] + own[index])
        group, family = (("simple", "color"), ("complex", "swap"))[index % 2]
        edit = EditRecord(f"t{index}", f"t{index}", index, "x", family, group, "", "edited")
        found[f"t{index}"] = Scored(edit, Verdict("ok", value, value, value, value, exact=False))
    return found


def verdict(scores: dict, sentence: str) -> str:
    return next(c["verdict"] for c in tables.judge_claims(scores) if sentence in c["claim"])


def options(folder: Path, *words: str) -> list[str]:
    return [
        "--out",
        str(folder),
        "--num",
        "2",
        "--sources",
        "3",
        "--validation",
        "2",
        "--sft",
        *SFT,
        "--rl",
        *RL,
        *words,
    ]


def test_cells_come_after_what_they_start_from():
    seen: set[str | None] = {None}
    for name, cell in reproduce.CELLS.items():
        assert cell.start in seen
        seen.add(name)
    assert {c for claim in tables.CLAIMS.values() for left, _, right in claim for c in (left, right)} <= seen
    assert reproduce.needed(["rl-sc-best"], []) == ["start", "sft-s", "rl-sc", "rl-sc-best"]
    assert reproduce.needed(["rl-sc"], ["start", "sft-s"]) == ["sft-s", "rl-sc"]


def test_every_cell_has_a_recipe_that_fits(tmp_path):
    words = reproduce.parser().parse_args(["--out", str(tmp_path)])
    comparison = reproduce.Comparison(words)
    for name, cell in reproduce.CELLS.items():
        if cell.kind not in ("sft", "grpo"):
            continue
        file, *overrides = comparison._recipe(name, 1)
        recipe = load_stage(file, overrides)
        assert recipe.run.seed == 1 and recipe.title == f"{cell.label}, seed 1"
        if isinstance(recipe, SftRecipe):
            drawn = {key for key, source in recipe.data.sources.items() if source.weight}
            alone = {"sft-s": {"simple"}, "think-s": {"simple"}, "sft-two-stage": {"complex"}}
            assert drawn == alone.get(name, {"simple", "complex"})
            assert recipe.data.reasoning == cell.reasoning
        else:
            assert isinstance(recipe, GrpoRecipe)
            assert recipe.prompts.group == {"rl-s": "simple", "rl-c": "complex"}.get(name, "all")
            assert recipe.length.max_steps == (750 if cell.scaled else 250)
            assert recipe.prompts.families == reproduce.SMALL and recipe.prompts.options == {"kinds": "few"}
            assert (recipe.verifier.second is not None) == (cell.table in ("weak", "judge"))
            assert (recipe.rollouts.prefill == "reasoning") == cell.reasoning
            design = (
                name.removeprefix("rl-sc-judge-").replace("-", "_") if cell.table == "judge" else "overall"
            )
            assert recipe.grpo.reward == design
            assert (recipe.verifier.options.get("seed") == 1) == (cell.table == "judge")


def test_variances_of_a_layout_are_found_again():
    rng = np.random.default_rng(0)
    seeds, tasks = 400, 500
    made_ST = (
        0.2 + rng.normal(0, 0.3, (seeds, 1)) + rng.normal(0, 2, (1, tasks)) + rng.normal(0, 1, (seeds, tasks))
    )
    found = variances.variances(made_ST)
    assert found.seed == pytest.approx(0.09, rel=0.2)
    assert found.task == pytest.approx(4, rel=0.2) and found.rest == pytest.approx(1, rel=0.02)
    by_hand = variances.variances(np.array([[1.0, 3.0], [3.0, 1.0]]))
    assert (by_hand.seed, by_hand.task, by_hand.rest) == (0.0, 0.0, 4.0)


def test_needed_seeds_are_the_fewest_that_reach():
    found = variances.Variances(seed=0.04, task=4.0, rest=2.0)
    # (1.96 + 0.8416)^2 (0.04 / n + 4 / 1000 + 2 / (1000 n)) <= 0.09 from n = 5.6 on
    assert variances.needed_seeds(found, 1000, 0.3) == 6
    assert variances.needed_seeds(found, 100, 0.3) is None  # tasks alone blur more than that
    assert variances.needed_seeds(variances.variances(np.ones((1, 9))), 1000, 0.3) is None


def test_a_claim_that_cannot_be_told_says_what_it_takes():
    def near(seed: int) -> dict[str, Scored]:
        return run(5.0 + 0.4 * (-1) ** seed, seed)

    scores = {"rl-s": [near(1), near(2), near(3)], "sft-s": [run(5.1, 4), run(5.1, 5), run(5.1, 6)]}
    claim = next(c for c in tables.judge_claims(scores) if c["claim"] == "RL on simple edits beats SFT")
    assert claim["verdict"] == "cannot tell" and "seeds would show" in claim["evidence"][0]["it_takes"]
    scores = {name: runs[:1] for name, runs in scores.items()}
    said = tables.seeds_to_tell(scores, "rl-s", "sft-s")
    assert said.startswith("two seeds at least")


def test_paired_differences_see_what_means_do_not():
    scores = {"rl-s": [run(5.2, 1, spread=1.5)], "sft-s": [run(5.0, 2, spread=1.5)]}
    found = tables.difference(scores, "rl-s", "sft-s")
    assert 0.1 < found.low < found.mean < found.high < 0.3
    assert verdict(scores, "RL on simple edits") == "holds"
    three = {"rl-s": [run(5, 1), run(6, 2), run(7, 3)], "sft-s": [run(4, 4)]}
    assert tables.difference(three, "rl-s", "sft-s").mean == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    ("claim", "left", "right", "gain", "says"),
    [
        ("RL on simple edits", "rl-s", "sft-s", 1.0, "holds"),
        ("RL on simple edits", "rl-s", "sft-s", -1.0, "does not hold"),
        ("RL on simple edits", "rl-s", "sft-s", 0.0, "cannot tell"),
        ("Best-of-N", "sft-s-best", "rl-sc", -1.0, "holds"),
        ("Best-of-N", "sft-s-best", "rl-sc", 0.0, "holds"),
        ("Best-of-N", "sft-s-best", "rl-sc", 1.0, "does not hold"),
    ],
)
def test_the_rule_of_a_claim(claim, left, right, gain, says):
    scores = {left: [run(5 + gain, 1)], right: [run(5, 1 if gain == 0 else 2)]}
    assert verdict(scores, claim) == says


def test_a_claim_of_two_comparisons():
    scores = {"rl-sc": [run(6, 1)], "rl-s": [run(5, 2)]}
    assert verdict(scores, "together are best") == "not run"
    assert verdict(scores | {"rl-c": [run(5, 3)]}, "together are best") == "holds"
    assert verdict(scores | {"rl-c": [run(7, 3)]}, "together are best") == "does not hold"


def test_tables_have_the_papers_shape():
    names = ("sft-s", "rl-sc", "sft-s-best", "rl-sc-judge-overall")
    scores = {name: [run(5, 1), run(5.5, 2)] for name in names}
    failed = scores["sft-s"][0]["t0"]
    scores["sft-s"][0]["t0"] = Scored(failed.edit, Verdict("unusable"))
    text, results = tables.markdown(reproduce.CELLS, scores, {"rl-c": "0 of 2 evaluations"})
    assert "| model | color (S) | swap (C) | S | C | all |" in text
    assert text.count("SFT S → RL S+C (2 seeds)") == 2 * 3, "RL stands beside best of N and weak verifiers"
    assert "## Best of N" in text and "## With a chain of thought" not in text
    assert "| Reasoning does not help | **not run** |" in text and "- `rl-c`: 0 of 2 evaluations" in text
    assert results["cells"]["sft-s"]["overall"]["count"] == 2 * TASKS - 1


def test_cells_are_compared_over_the_seeds_that_both_have():
    left, right = [run(6, 1), run(6, 2), run(6, 3)], [{}, run(5, 4), run(2, 5)]
    scores = {"rl-s": left, "sft-s": right}
    found = tables.difference(scores, "rl-s", "sft-s")
    assert found is not None and found.count == 2 * TASKS and found.mean == pytest.approx(2.5, abs=0.1)
    text, results = tables.markdown(reproduce.CELLS, scores, {"sft-s": "2 of 3 evaluations"})
    assert "SFT S (2 seeds)" in text and "SFT S → RL S (3 seeds)" in text
    counts = [results["cells"][name]["overall"]["count"] for name in ("sft-s", "rl-s")]
    assert counts == [2 * TASKS, 3 * TASKS]
    assert tables.difference({"rl-s": [run(6, 1), {}], "sft-s": [{}, run(5, 2)]}, "rl-s", "sft-s") is None
    given = {"rl-s": left, "sft-s": [run(5, 4)]}
    assert tables.difference(given, "rl-s", "sft-s").count == 3 * TASKS


@pytest.mark.parametrize("out", ["file", "file/below", "dangling", "x" * 300])
def test_an_output_folder_that_cannot_be_is_told_before_any_work(out, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("precious")
    (tmp_path / "dangling").symlink_to("nowhere")
    monkeypatch.setattr(reproduce, "_earl", lambda *_, **__: pytest.fail("it began to work"))
    assert reproduce.main(["--out", out]) == 2
    said = capsys.readouterr().err
    assert said.startswith("reproduce: ") and said.count("\n") == 1
    assert (tmp_path / "file").read_text() == "precious"


def test_a_model_given_for_nothing(capsys):
    assert reproduce.main(["--given", "sft-s", "--plan"]) == 2
    assert "expected CELL=MODEL" in capsys.readouterr().err


@pytest.mark.parametrize("given", [[], ["--given", "sft-s=nowhere"]])
def test_tables_of_nothing_are_one_sentence_and_make_nothing(given, tmp_path, capsys):
    assert reproduce.main(["--out", str(tmp_path / "x"), "--tables", *given]) == 2
    error = capsys.readouterr().err
    assert ("no model 'nowhere'" if given else "x holds no evaluation of 1000 tasks") in error
    assert error.count("\n") == 1 and not any(tmp_path.iterdir())


def test_another_model_under_the_name_of_one_that_was_measured(model_folder, tmp_path, capsys):
    folder = tmp_path / "given" / "sft-s" / "evaluation-1000"
    folder.mkdir(parents=True)
    write_json(folder / "results.json", {})
    benchmark, editor = {"name": "world", "title": "World"}, {"name": "SFT S", "weights": "0f-0f"}
    write_json(folder / "evaluation.json", {"format": 1, "benchmark": benchmark, "editor": editor})
    words = ["--out", str(tmp_path), "--given", f"sft-s={model_folder}", "--plan"]
    assert reproduce.main(words) == 2
    assert "is an evaluation of another model than --given sft-s=" in capsys.readouterr().err
    weights = "-".join(fingerprint(model_folder / part) for part in ("policy", "vision"))
    editor["weights"] = weights
    write_json(folder / "evaluation.json", {"format": 1, "benchmark": benchmark, "editor": editor})
    assert reproduce.main(words) == 0
    assert "sft-s: done" in capsys.readouterr().out


def test_power_of_what_is_committed_and_of_nothing(monkeypatch, capsys):
    """The command of docs/reproduction.md, from the root of the repository."""
    page = (ROOT / "docs/reproduction.md").read_text()
    command = page.split("python experiments/power.py ")[1].split("```")[0]
    monkeypatch.chdir(ROOT)
    assert power.main(command.replace("\\\n", " ").split()) == 0
    assert capsys.readouterr().out.endswith("0.3 points with 1000 tasks: 1 seed\n")
    assert power.main(["nowhere", "either"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("power: nowhere does not exist") and error.count("\n") == 1


def test_a_small_comparison_from_end_to_end(model_folder, tmp_path, monkeypatch, capsys):
    ran: list[list[str]] = []

    def earl(words, **_):
        ran.append(words[:2])
        assert main(words) == 0
        return True

    monkeypatch.setattr(reproduce, "_earl", earl)
    words = options(tmp_path, "--start", str(model_folder), "--cells", "rl-sc-judge-overall", "sft-s-best")
    assert reproduce.main([*words, "--plan"]) == 0 and not ran
    assert reproduce.main([*words, "--minutes", "0"]) == 0 and not ran
    assert reproduce.main([*words, "--best-of", "2"]) == 0
    trained = [["train", "sft"], ["train", "grpo"]]
    assert [one for one in ran if one[0] == "train"] == trained
    assert ran.count(["evaluate", "world"]) == 4 and ran.count(["prepare", "world"]) == 3
    for name in ("sft-s", "rl-sc-judge-overall"):
        assert (tmp_path / "seed-0" / name / "model" / "earl.json").is_file()
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results["cells"]) == {"start", "sft-s", "sft-s-best", "rl-sc-judge-overall"}
    assert "rl-sc" in results["missing"] and (tmp_path / "tables.md").read_text() in capsys.readouterr().out
    page = (tmp_path / "page.html").read_text()
    assert "RL S+C, weak judge, root of minima" in page and page.count("data:image/png") == 2 * (2 + 4)
    assert "<em>cannot tell</em>" in page and "*" not in page.split("<h2>Claims")[1].split("<h2>Scores")[0]
    assert "Held-out prompts" in page and page.count("<svg") == 4
    ran.clear()
    assert reproduce.main([*words, "--best-of", "2"]) == 0 and not ran, "what is finished is not made again"
    assert reproduce.main([*words, "--sft", "optimiser.learning_rate=0.5", *SFT]) == 2
    assert "was made with another recipe" in capsys.readouterr().err
    card = json.loads((tmp_path / "data" / "validation" / "card.json").read_text())
    card["made_with"]["reasoning"] = "steps"
    write_json(tmp_path / "data" / "validation" / "card.json", card)
    assert reproduce.main([*words, "--cells", "sft-sc"]) == 2
    assert "validation was prepared with reasoning = 'steps', now 'plan'" in capsys.readouterr().err
    assert reproduce.main([*words, "--cells", "rl-sx"]) == 2 and "no cell 'rl-sx'" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path):
    words = [
        "experiments/reproduce.py",
        "--plan",
        "--seeds",
        *map(str, range(4000)),
        "--out",
        str(tmp_path / "x"),
    ]
    with subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None and running.stderr is not None
        assert "start" in running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == ""
