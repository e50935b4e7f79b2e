"""Edits: words and back, splits, held-out combinations, and what counts as right."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from earl.errors import DataError, InstructionError
from earl.world.families import FAMILIES, held_out
from earl.world.goals import check
from earl.world.language.plain import plain_phrase
from earl.world.language.reading import parse
from earl.world.plans import plan
from earl.world.scene import Scene, SceneObject
from earl.world.tasks import SPLITS, sample_group, sample_task


@pytest.mark.parametrize("family", FAMILIES)
def test_every_wording_is_read_back(family):
    rng = np.random.default_rng(0)
    for seed in range(25):
        task = sample_task(seed, "train", [family])
        assert task.family == family and task.group == FAMILIES[family]
        assert parse(task.instruction) == task.request
        for _ in range(6):
            assert parse(plain_phrase(task.request, rng)) == task.request


@pytest.mark.parametrize("family", FAMILIES)
def test_the_target_is_right_and_the_source_is_not(family):
    for seed in range(40):
        task = sample_task(seed, "test", [family])
        done = check(task.request, task.source, task.target)
        assert done.exact and done.edit_success == 10 and done.over_editing == 10, task.instruction
        undone = check(task.request, task.source, task.source)
        assert undone.edit_success <= 0.9 and not undone.exact, task.instruction


def test_other_valid_places_count_too():
    source = Scene("meadow", "day", (SceneObject("cube", "red", 0, 1),))
    request = parse("add a blue sphere")
    for column, row in ((1, 1), (3, 0), (0, 0)):
        for size in ("large", "small"):
            seen = source.with_object(SceneObject("sphere", "blue", column, row, size))
            assert check(request, source, seen).exact
    on_top = source.with_object(SceneObject("sphere", "blue", 0, 1, level=1))
    assert check(request, source, on_top).exact


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda s: s.with_object(SceneObject("sphere", "green", 2, 1)), "edit_success"),
        (lambda s: s.with_object(SceneObject("cube", "blue", 2, 1)), "edit_success"),
        (
            lambda s: replace(s, background="snow").with_object(SceneObject("sphere", "blue", 2, 1)),
            "over_editing",
        ),
        (lambda s: Scene("meadow", "day", (SceneObject("sphere", "blue", 2, 1),)), "over_editing"),
    ],
)
def test_wrong_color_shape_damage_and_loss_score_below_one(change, part):
    source = Scene("meadow", "day", (SceneObject("cube", "red", 0, 1),))
    outcome = check(parse("add a blue sphere"), source, change(source))
    assert not outcome.exact and getattr(outcome, part) <= 0.9 and outcome.why != "as asked"


def test_nearer_misses_score_higher():
    source = Scene("meadow", "day", (SceneObject("cube", "red", 0, 1), SceneObject("cone", "blue", 2, 1)))
    request = parse("replace the red cube with a green sphere")
    half = source.swapped_for(source.objects[0], SceneObject("sphere", "yellow", 0, 1))
    assert 0 < check(request, source, half).edit_success <= 0.9
    assert check(request, source, source).edit_success == 0


def test_held_out_combinations_stay_out():
    for split in SPLITS:
        for seed in range(150):
            for task in sample_group(seed, split, size=3):
                triples = _triples(task)
                inside = any((s, c) in held_out(edit) for edit, s, c in triples)
                if triples:
                    assert inside == (split == "heldout"), (split, task.instruction)


def _triples(task):
    op = {"shrink": "size", "enlarge": "size", "stripe": "texture", "unstripe": "texture"}
    name = op.get(task.request.op, task.request.op)
    if name in ("add", "replace"):
        return [(name, task.request.kind.shape, task.request.kind.color)] if not task.request.then else []
    if name in ("remove", "size", "texture", "color") and not task.request.then:
        color = task.request.value if name == "color" else task.request.ref.color
        return [(name, task.request.ref.shape, color)]
    return []


def test_splits_draw_different_tasks():
    said = {s: {(t.instruction, t.source) for t in (sample_task(i, s) for i in range(80))} for s in SPLITS}
    for first in SPLITS:
        for second in SPLITS:
            assert first == second or not said[first] & said[second]


def test_a_group_shares_its_source_and_repeats_no_family():
    for seed in range(30):
        group = sample_group(seed, size=4)
        assert len({t.source for t in group}) == 1 and len({t.source_key for t in group}) == 1
        assert max(Counter(t.family for t in group).values()) == 1


def test_same_seed_same_task():
    assert sample_task(9, "test") == sample_task(9, "test")


def test_few_kinds_keep_to_plain_large_solids():
    for seed in range(40):
        for task in sample_group(seed, "train", ["add", "remove", "color"], "few"):
            assert all(o.size == "large" and o.texture == "plain" for o in task.source.objects)


def test_strange_words_and_families_are_refused():
    with pytest.raises(InstructionError, match="none of the world's wordings"):
        parse("give the dog a hat")
    with pytest.raises(InstructionError, match="shows no green cone"):
        check(parse("remove the green cone"), Scene("snow", "day", ()), Scene("snow", "day", ()))
    with pytest.raises(DataError, match="unknown edit family"):
        sample_task(0, "train", ["explode"])


def test_double_requests_are_two():
    request = parse("remove the red cube, and move the scene to a desert")
    assert request.op == "remove" and request.then is not None and request.then.value == "desert"


def test_a_plan_says_what_each_changed_place_will_hold():
    cube, sphere = SceneObject("cube", "red", 1, 1), SceneObject("sphere", "blue", 3, 0, size="small")
    scene = Scene("meadow", "day", (cube, sphere))
    assert plan(scene, scene) == "nothing"
    assert (
        plan(scene, replace(scene, background="desert", style="night")) == "background: desert; style: night"
    )
    swapped = Scene("meadow", "day", (sphere.moved(1, 1), cube.moved(3, 0)))
    assert plan(scene, swapped) == (
        "small blue sphere back far right: red cube; red cube front left: small blue sphere"
    )
    cone = SceneObject("cone", "green", 1, 1, texture="striped", pose="toppled", level=1)
    assert plan(scene, scene.with_object(cone)) == "nothing front left top: striped toppled green cone"
    assert plan(scene, scene.without(sphere)) == "small blue sphere back far right: nothing"


def test_reasoning_has_five_steps():
    for seed in range(20):
        text = sample_task(seed).reasoning
        assert all(f"{i}. " in text for i in range(1, 6)) and len(text) < 1750
