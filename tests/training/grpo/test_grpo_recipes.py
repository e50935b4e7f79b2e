"""The recipes of reinforcement learning: they parse, and what disagrees is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from earl.config.recipe import load_recipe, save_recipe
from earl.config.stages import GrpoRecipe, load_stage
from earl.errors import ConfigError

ROOT = Path(__file__).parents[3]
WORLD = ROOT / "recipes" / "world" / "grpo.toml"


def test_the_published_constants():
    recipe = load_stage(ROOT / "recipes" / "emu3" / "grpo.toml", stage="grpo")
    assert isinstance(recipe, GrpoRecipe)
    assert (recipe.prompts_per_step, recipe.rollouts.group, recipe.grpo.updates) == (16, 8, 1)
    assert (recipe.optimiser.learning_rate, recipe.grpo.kl_coefficient) == (3e-6, 3e-4)
    assert (recipe.optimiser.betas, recipe.optimiser.clip_norm) == ((0.9, 0.999), 1.0)
    assert recipe.grpo.divide_by_std and recipe.grpo.advantage_eps == 1e-4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("batch.micro_size=4", ["batch.micro_size", "rollouts.group"]),
        ("prompts.origin=shards", ["prompts.origin", "prompts.path"]),
        ("grpo={mirror_release=true, updates=2}", ["grpo.mirror_release", "grpo.updates"]),
        (
            "grpo={mirror_release=true, importance_range=[0.2, 5]}",
            ["grpo.mirror_release", "importance_range"],
        ),
        ("grpo.importance_range=[1.5, 5]", ["importance_range", "1.5", "below 1"]),
        ("validation.patience=3", ["validation.patience", "early_stopping.patience"]),
        ("length={max_epochs=2}", ["length.max_steps"]),
        ("grpo.clpi=0.3", ["grpo.clip"]),
        ("rollouts.group=1", ["rollouts.group"]),
        ('prompts={origin="shards", path="s"}', ["prompts.origin", "heldout.path", "heldout.prompts = 0"]),
        ("ranks.sharding=fsdp2", ["ranks.sharding", "[neighbour_smoothing]"]),
        ("neighbour_smoothing={targets=0.0} lora.rank=2", ["[lora]", "neighbour_smoothing.targets"]),
    ],
)
def test_fields_that_disagree_are_named(override: str, words: list[str]):
    with pytest.raises(ConfigError) as error:
        load_stage(WORLD, override.split(" ") if " lora" in override else [override])
    assert all(word in str(error.value) for word in words), str(error.value)


def test_the_release_shares_nothing_among_codes():
    with pytest.raises(ConfigError, match=r"grpo\.mirror_release = true.*\[neighbour_smoothing\]"):
        load_stage(WORLD, ["grpo={mirror_release=true}", "neighbour_smoothing.targets=1.0"])


def test_the_resolved_recipe_reads_back_equal(tmp_path: Path):
    recipe = load_stage(WORLD, ["grpo.updates=2", "lora.rank=4"])
    assert load_recipe(GrpoRecipe, save_recipe(recipe, tmp_path / "recipe.toml")) == recipe
