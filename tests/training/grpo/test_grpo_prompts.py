"""Prompts of a GRPO run: shards, several sources, a pool, held-out tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from earl.data.shards import load_shards
from earl.records import Attempt, Verdict
from earl.sequence.tokenizer import TextTokenizer
from earl.training.grpo.train import heldout_prompts, training_prompts

from .tiny import Bright, MeanColour, make_recipe, recipe_table, records, train


def test_prompts_from_shards(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path)
    table |= {"length": {"max_steps": 3}, "heldout": {"prompts": 99, "path": str(room / "shards")}}
    table["prompts"] = {"origin": "shards", "path": str(room / "shards"), "group": "simple"}
    seen: list[str] = []

    class Seen(Bright):
        def verdict(self, attempt: Attempt) -> Verdict:
            seen.append(attempt.key.rpartition("/")[0])
            return super().verdict(attempt)

    train(table, Seen())
    held_out = len(load_shards(room / "shards"))
    assert len(seen) == 3 * 16 + 2 * held_out, "all that there are, before and after, none twice"
    assert sorted(seen[:held_out]) == sorted(seen[-held_out:]) and len({*seen[:held_out]}) == held_out
    assert all("reward_complex" not in line and line["reward"] > 0 for line in records(tmp_path))


@pytest.mark.parametrize("prefill", ["direct", "reasoning"])
def test_the_source_s_grid_is_forced_under_every_prefill(room: Path, tmp_path: Path, prefill: str) -> None:
    table = recipe_table(room, tmp_path) | {"length": {"max_steps": 1}}
    table["rollouts"] = {"group": 4, "prefill": prefill, "max_text_tokens": 4}
    grids: list[Any] = []

    class Seen(Bright):
        def verdict(self, attempt: Attempt) -> Verdict:
            grids.append(attempt.edited and attempt.edited.size)
            return super().verdict(attempt) if attempt.edited else Verdict("undecodable")

    table["judging"] |= {"undecodable_reward": 0.0}
    train(table, Seen())
    made = [size for size in grids if size is not None]
    assert set(made) <= {(32, 32)}
    assert len(made) == 16 or prefill == "reasoning", "a random policy seldom ends its thoughts"
    assert records(tmp_path)[0]["sampler_gap"] < 1e-5, "the trainer forces the size too"


def test_prompts_of_several_sources_and_a_pool(room: Path, tmp_path: Path) -> None:
    table = recipe_table(room, tmp_path) | {"length": {"max_steps": 3}}
    shards = str(room / "shards")
    table["prompts"] = {
        "origin": "shards",
        "pool": 5,
        "sources": {
            "simple": {"path": shards, "group": "simple", "weight": 3.0},
            "complex": {"path": shards, "group": "complex", "draw": 3},
        },
    }
    held = {"prompts": 4, "sources": {"a": {"path": shards, "group": "simple"}, "b": {"path": shards}}}
    seen: list[Attempt] = []

    class Seen(Bright):
        def verdict(self, attempt: Attempt) -> Verdict:
            seen.append(attempt)
            return super().verdict(attempt)

    train(table | {"heldout": held, "validation": {"every": 9}}, Seen())
    keys = {attempt.key.rpartition("/")[0] for attempt in seen[4:-4]}
    assert 3 <= len(keys) <= 5, "12 prompts of a pool of 5"
    held_out = [attempt.key for attempt in seen[:4]]
    assert held_out == [attempt.key for attempt in seen[-4:]] and len(set(held_out)) == 4


def test_a_pool_of_tasks_comes_round(room: Path) -> None:
    recipe = make_recipe(recipe_table(room, room) | {"prompts": {"origin": "world", "pool": 3}})
    tokenizer = TextTokenizer.from_folder(room / "model")
    vision = MeanColour()
    vision.area = 32 * 32
    made = training_prompts(recipe, vision, tokenizer).make(list(range(7)))
    assert [prompt.instruction for prompt in made[:3]] == [prompt.instruction for prompt in made[3:6]]
    assert len({prompt.key for prompt in made}) == 7 and made[0].ids == made[6].ids != made[1].ids


def test_held_out_tasks_have_the_families_and_options_of_the_prompts(room: Path) -> None:
    prompts = {"origin": "world", "group": "simple", "families": ["remove", "count"]}
    recipe = make_recipe(recipe_table(room, room) | {"prompts": prompts | {"options": {"kinds": "few"}}})
    vision = MeanColour()
    vision.area = 32 * 32
    held = heldout_prompts(recipe, vision, TextTokenizer.from_folder(room / "model"))
    assert {prompt.family for prompt in held.make(list(range(12)))} == {"remove", "count"}
