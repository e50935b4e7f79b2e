"""Instructions worded anew: the same place in a run gives the same words, and names are checked."""

import numpy as np
import pytest

from earl.config.stages import load_stage
from earl.data.shards import Edit
from earl.errors import ConfigError
from earl.registry import WORDINGS
from earl.training.sft.tasks import reworded
from earl.world.language.naming import name_solids, to_json
from earl.world.tasks import sample_task


def edit(seed: int = 0, request: bool = True) -> Edit:
    task = sample_task(seed)
    codes = np.zeros((2, 2), np.int32)
    asked = to_json(name_solids(task.request, task.source, task.target)) if request else ""
    return Edit(
        task.id, task.source_key, codes, codes, codes > 0, task.instruction, "", "", "", request=asked,
        questions=("find the red cube",),
    )  # fmt: skip


def worded(*seeds: int, asked: Edit | None = None, **how) -> Edit:
    return reworded(asked or edit(), WORDINGS.load("world"), np.random.default_rng(seeds), **how)


def test_the_same_draw_has_the_same_words():
    assert worded(2).instruction == worded(2).instruction
    assert len({worded(n).instruction for n in range(12)}) > 6


def test_without_a_request_the_instruction_stays():
    plain = edit(request=False)
    assert worded(3, asked=plain) == plain


def test_questions_keep_their_instruction():
    found = worded(3, questions=True)
    assert found.instruction == edit().instruction and found.questions[0].startswith("find ")


@pytest.mark.parametrize("name", ["nowhere", "earl.world:nothing", "earl.world.language.drawing:"])
def test_unknown_functions_are_named(name):
    with pytest.raises(ConfigError, match="wording function"):
        WORDINGS.load(name)


def test_the_recipe_names_a_function_that_is_there():
    recipe = load_stage("recipes/world/language.toml")
    assert callable(WORDINGS.load(recipe.data.wordings))
