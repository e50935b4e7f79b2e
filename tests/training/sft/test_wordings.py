"""Instructions worded anew: the same place in a run gives the same words, and names are checked."""

import numpy as np
import pytest

from earl.config.stages import load_stage
from earl.data.mixture import Mixture
from earl.data.shards import Edit
from earl.errors import ConfigError
from earl.registry import WORDINGS
from earl.training.sft.wordings import Rewording
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


def reworded(draws: int, **how) -> str:
    rewording = Rewording("world", seed=3)
    rewording.mixture = Mixture({"a": 9}, {"a": 1.0}, seed=0)
    for _ in range(draws):
        next(rewording.mixture)
    return rewording(edit(), **how).instruction


def test_the_same_draw_has_the_same_words():
    assert reworded(2) == reworded(2)
    assert len({reworded(n) for n in range(12)}) > 6
    assert len({reworded(2, part=n) for n in range(12)}) > 6


def test_without_a_request_or_a_function_the_instruction_stays():
    rewording = Rewording("world", seed=3)
    rewording.mixture = Mixture({"a": 9}, {"a": 1.0}, seed=0)
    plain = edit(request=False)
    assert rewording(plain) == plain
    unset = Rewording(None, seed=3)
    unset.mixture = rewording.mixture
    assert unset(edit()).instruction == edit().instruction


def test_questions_keep_their_instruction():
    rewording = Rewording("world", seed=3)
    rewording.mixture = Mixture({"a": 9}, {"a": 1.0}, seed=0)
    found = rewording(edit(), questions=True)
    assert found.instruction == edit().instruction and found.questions[0].startswith("find ")


@pytest.mark.parametrize("name", ["nowhere", "earl.world:nothing", "earl.world.language.drawing:"])
def test_unknown_functions_are_named(name):
    with pytest.raises(ConfigError, match="wording function"):
        WORDINGS.load(name)


def test_the_recipe_names_a_function_that_is_there():
    recipe = load_stage("recipes/world/language.toml")
    assert callable(WORDINGS.load(recipe.data.wordings))
