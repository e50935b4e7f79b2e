"""Recipes: strictness, overrides, and that every recipe of the repository parses."""

from __future__ import annotations

from pathlib import Path

import pytest

from earl.config.recipe import (
    check,
    load_recipe,
    read_recipe_table,
    recipe_toml,
    save_recipe,
    without_secrets,
)
from earl.config.stages import STAGES, GrpoRecipe, SftRecipe, load_stage
from earl.errors import ConfigError
from earl.evaluation.published import published_models
from earl.models.resolve import is_folder

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for folder in ("recipes", "experiments") for path in (ROOT / folder).rglob("*.toml"))

SMALL = """
stage = "sft"
[run]
folder = "runs/x"
[length]
max_steps = 10
[batch]
global_size = 8
micro_size = 4
[optimiser]
learning_rate = 1e-3
[model]
size = "tiny"
text_tokenizer = "text"
[data.sources.world]
path = "shards"
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_recipe_parses(path: Path) -> None:
    if (stage := path.read_text().partition('stage = "')[2].partition('"')[0]) in STAGES:
        assert load_stage(path).title, "a recipe says in one line what it is"
    else:
        assert stage, f"{path} names no stage"


def test_there_are_recipes() -> None:
    names = {str(path.relative_to(ROOT / path.relative_to(ROOT).parts[0])) for path in RECIPES}
    published = {f"emu3/{name}.toml" for name in ("sft-s", "sft-sc", "sft-two-stage", "sft-think")}
    assert published | {"world/tokenizer.toml", "world/base.toml", "world/sft.toml"} <= names


@pytest.mark.parametrize(
    "path", sorted((ROOT / "recipes" / "emu3").glob("*.toml")), ids=lambda path: path.stem
)
def test_recipes_of_the_paper_name_a_row_and_its_mean(path: Path) -> None:
    said = path.read_text("utf-8").partition("\nstage = ")[0].replace("->", "→")
    rows = [row for row in published_models() if f'"{row.model}"' in said and f"{row.mean:.2f}" in said]
    assert rows, said
    validation = load_stage(path).validation
    assert path.stem == "one-gpu-sft" or not path.stem.startswith("sft") or validation.sequences == 1000


def test_overrides_are_toml_values(recipe_file: Path) -> None:
    overrides = ["optimiser.learning_rate=3e-6", "run.folder=runs/y", "data.stitch=true", "ema.decay=0.9"]
    recipe = load_stage(recipe_file, [*overrides, 'data.sources.world.families=["add", "color"]'])
    assert isinstance(recipe, SftRecipe)
    assert recipe.optimiser.learning_rate == 3e-6
    assert recipe.run.folder == "runs/y" and recipe.data.stitch is True
    assert recipe.ema is not None and recipe.ema.decay == 0.9
    assert recipe.data.sources["world"].families == ("add", "color")


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("optimiser.learning_rat=1e-3", "optimiser.learning_rate"),
        ("optimizer.learning_rate=1e-3", "'optimiser'"),
        ("batch.micr=2", "batch.micro_size"),
        ("learning_rate=1e-3", "optimiser.learning_rate"),
        ("data.sources.world.wieght=2.0", "'data.sources.world.weight'"),
        ("data.sources.world.foo=2", "there: path, weight"),
    ],
)
def test_unknown_key_names_the_nearest(recipe_file: Path, override: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match="unknown key") as error:
        load_stage(recipe_file, [override])
    assert override.partition("=")[0].partition(".")[0] in str(error.value) and nearest in str(error.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["batch.micro_size=3"], ["batch.global_size = 8", "batch.micro_size = 3"]),
        (["schedule.minimum=0.01"], ["schedule.minimum", "optimiser.learning_rate"]),
        (["schedule.warmup_steps=11"], ["schedule.warmup_steps", "length.max_steps"]),
        (["model.start=world"], ["model.start", "model.size"]),
        (["validation.patience=3"], ["validation.patience", "data.validation"]),
        (["optimiser.name=muon"], ["optimiser.name", "optimiser.muon_learning_rate"]),
        (["batch.share=3"], ["batch.micro_size", "batch.share"]),
        (
            ["batch.share=2", "precision.gradient_checkpointing=true"],
            ["batch.share", "precision.gradient_checkpointing"],
        ),
        (["data.sources.world.weight=0"], ["data.sources"]),
    ],
)
def test_fields_that_disagree_are_both_named(
    recipe_file: Path, overrides: list[str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        load_stage(recipe_file, overrides)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    "override",
    [
        "run.seed=-1",
        "run.seed=1.5",
        'batch.micro_size="4"',
        "optimiser.learning_rate=2.0",
        "optimiser.learning_rate=nan",
        "data.stitch=1",
        "run.log_every=true",
        "run.device=gpu",
        "lora.rank=0",
        'lora.targets=["q_porj"]',
        "run.folder=",
        "model.text_tokenizer=''",
    ],
)
def test_wrong_types_and_ranges(recipe_file: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        load_stage(recipe_file, [override])


def test_home_is_written_out_in_paths(recipe_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nowhere/me")
    recipe = load_stage(recipe_file, ["data.sources.world.path=~/shards", "run.folder='~'"])
    assert isinstance(recipe, SftRecipe)
    assert recipe.data.sources["world"].path == "/nowhere/me/shards" and recipe.run.folder == "/nowhere/me"


@pytest.mark.parametrize("override", ["run.folder", "=3", "run..seed=1", "run.folder.x=1"])
def test_malformed_override(recipe_file: Path, override: str) -> None:
    with pytest.raises(ConfigError):
        load_stage(recipe_file, [override])


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_stage(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("stage = ")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_stage(tmp_path / "broken.toml")
    with pytest.raises(ConfigError, match=r"is a folder; name a TOML file"):
        load_stage(tmp_path)
    for odd in ("x = " + "[" * 3000, "x = " + "1" * 5000, "x = 1\ny = \xff".encode("latin-1")):
        (tmp_path / "odd.toml").write_bytes(odd if isinstance(odd, bytes) else odd.encode())
        with pytest.raises(ConfigError, match=r"odd\.toml"):
            load_stage(tmp_path / "odd.toml")
    (tmp_path / "bom.toml").write_text("\ufeff" + SMALL, encoding="utf-8")
    assert load_stage(tmp_path / "bom.toml").stage == "sft"
    with pytest.raises(ConfigError, match=r"folder.*missing"):
        check(SftRecipe, {"stage": "sft", "run": {}})


def test_stage_must_fit_the_command(recipe_file: Path) -> None:
    with pytest.raises(ConfigError, match="'grpo'"):
        load_stage(recipe_file, stage="grpo")
    for stage in ("sftt", "[]", "{}", "3"):
        with pytest.raises(ConfigError, match="expected one of"):
            load_stage(recipe_file, [f"stage={stage}"])


def test_resolved_recipe_reads_back_equal(recipe_file: Path, tmp_path: Path) -> None:
    recipe = load_stage(recipe_file, ["ema.decay=0.9", 'title="a \\"b\\""', 'data.sources."x y".path=p'][:2])
    saved = save_recipe(recipe, tmp_path / "out" / "recipe.toml")
    assert load_recipe(SftRecipe, saved) == recipe
    assert "keep = 2" in recipe_toml(recipe), "defaults are spelt out"


EMU3 = ROOT / "recipes" / "emu3"
SIZES = {"humanedit": 4600, "magicbrush": 8807, "aurora-ag": 7800}
"""Edits of the small complex sets, as published; the others have 50,000 each."""


def test_the_mixtures_of_supervised_training_are_the_paper_s() -> None:
    drawn = {}
    for name in ("sft-s", "sft-sc", "sft-two-stage", "sft-think"):
        recipe = load_stage(EMU3 / f"{name}.toml")
        assert isinstance(recipe, SftRecipe) and recipe.dropout == 0.1 and recipe.score_forced
        drawn[name] = {
            key: source.weight * (source.draw or SIZES.get(key, 50_000))
            for key, source in recipe.data.sources.items()
        }
        assert set(recipe.data.held_back) == set(drawn[name])
    assert drawn["sft-s"] == drawn["sft-think"] == {"omniedit": 750_000}
    assert len(drawn["sft-sc"]) == 7 and sum(drawn["sft-sc"].values()) == pytest.approx(1_050_000, rel=1e-3)
    assert drawn["sft-sc"]["omniedit"] / sum(drawn["sft-sc"].values()) == pytest.approx(0.714, abs=1e-3)
    rest = {key: count for key, count in drawn["sft-sc"].items() if key != "omniedit"}
    assert drawn["sft-two-stage"] == rest and all(abs(count - 50_000) < 100 for count in rest.values())
    ours = load_stage(EMU3 / "one-gpu-sft.toml")
    assert isinstance(ours, SftRecipe) and ours.dropout == 0 and not ours.score_forced


WEIGHTS = {
    "omniedit": 0.13,
    "magicbrush": 6.0,
    "aurora-ag": 6.0,
    "aurora-kubric": 0.7,
    "something-something-v2": 1.55,
    "vismin": 3.7,
    "humanedit": 11.0,
}
"""The release's, for simple and complex edits together (EARL, arXiv 2508.01119)."""


def test_reinforcement_is_the_release_s_and_each_recipe_names_its_row() -> None:
    for name, pool, steps in (("grpo", 300_000, 2000), ("grpo-think", 1600, 100)):
        recipe = load_stage(EMU3 / f"{name}.toml")
        assert isinstance(recipe, GrpoRecipe)
        assert {key: source.weight for key, source in recipe.prompts.sources.items()} == WEIGHTS
        assert (recipe.prompts.pool, recipe.length.max_steps, recipe.rollouts.top_k) == (pool, steps, 0)
        assert recipe.rollouts.source_grid and recipe.grpo.average == "token"
        assert set(recipe.heldout.sources) == set(WEIGHTS)
    for path in sorted(EMU3.glob("*.toml")):
        head = path.read_text().partition("stage =")[0]
        assert "row" in head.lower() and "SFT" in head, f"{path} names no row of the paper's table"


def test_numbers_and_names_that_nothing_could_be_done_with(recipe_file: Path) -> None:
    for override in (
        f"batch.global_size={10**400}",
        f"length.max_steps={2**63}",
        f"checkpoint.keep={10**30}",
        f"run.folder={'x' * 5000}",
        "data.validation=~nosuchuser/x",
        'model.start="a\\u0000b"',
    ):
        with pytest.raises(ConfigError, match=override.partition("=")[0].rpartition(".")[2]) as refused:
            load_stage(recipe_file, [override])
        assert len(str(refused.value)) < 1010
    assert not is_folder("x" * 5000) and not is_folder("~nosuchuser/x") and is_folder(recipe_file.parent)


@pytest.mark.parametrize("override", ["title=\udcff", "\udcff=1", "model.start=a\ud800"])
def test_an_override_that_is_not_valid_text(tmp_path, override):
    path = tmp_path / "recipe.toml"
    path.write_text('stage = "sft"\n')
    with pytest.raises(ConfigError, match=r"^override '.*\\u?[dx].* is not valid UTF-8 text$"):
        read_recipe_table(path, [override])
    with pytest.raises(ConfigError, match="a name or text in it is not valid Unicode"):
        check(SftRecipe, {"stage": "sft", "title": "\ud800"})


def test_secrets_in_addresses_are_not_for_others():
    text = 'url = "https://user:passphrase@host:8000/v1?key=query-secret"\nmodel = "m?x@y"'
    assert without_secrets(text) == 'url = "https://host:8000/v1"\nmodel = "m?x@y"'
