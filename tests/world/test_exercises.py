"""The exercises that teach the shipped policy where things are (`recipes/world/practice.py`)."""

import sys
from pathlib import Path

import numpy as np
import pytest

from earl.world.families import held_out
from earl.world.plans import list_solids, requested
from earl.world.sampling import sample_scene
from earl.world.scene import Scene, SceneObject

RECIPES = Path(__file__).parents[2] / "recipes" / "world"


class Codes:
    """An encoder whose codes are the mean level of each cell."""

    def encode(self, images, resize=True):
        return [
            np.asarray(i, np.int32).reshape(8, 8, 8, 8, 3).mean((1, 3, 4)).astype(np.int32) for i in images
        ]


@pytest.fixture
def exercises(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    from practice import Exercises

    yield Exercises(Codes(), np.random.default_rng(3))
    sys.modules.pop("practice")


def test_solids_are_listed_with_their_places():
    scene = Scene(
        "snow",
        "day",
        (
            SceneObject("cube", "red", 1, 1),
            SceneObject("cone", "green", 3, 0, size="small", texture="striped"),
        ),
    )
    listed = {list_solids(scene, np.random.default_rng(seed)) for seed in range(20)}
    red, green = "red cube front left", "small striped green cone back far right"
    assert listed == {f"{red}; {green}", f"{green}; {red}"}


def test_a_solid_on_top_is_listed_there():
    rng = np.random.default_rng(0)
    scene = next(
        s for s in (sample_scene(rng, stacks=1.0) for _ in range(50)) if any(o.level for o in s.objects)
    )
    assert " top" in list_solids(scene, rng)


def test_texts_teach_no_image(exercises):
    for bundle in exercises.texts(8):
        for edit in bundle:
            assert not edit.changed.any()
            assert edit.reasoning
            assert np.array_equal(edit.source_codes, bundle[0].source_codes)


def test_drawings_change_what_their_plans_name(exercises):
    places = set()
    for bundle in exercises.drawings(40):
        for edit in bundle:
            differs = edit.source_codes != edit.target_codes
            assert not (differs & ~edit.changed).any()
            assert edit.changed.all() == edit.reasoning.startswith(("background", "style"))
            assert ";" not in edit.reasoning and edit.instruction
            if edit.reasoning.startswith("nothing"):
                places.add(edit.reasoning.removeprefix("nothing ").partition(":")[0])
    assert len([place for place in places if "top" not in place]) == 8, "solids come to any place"
    assert len(places) > 8, "and on top of others"


def test_drawings_hold_no_held_out_combination(exercises):
    seen = dict.fromkeys(("add", "remove", "replace", "color"), 0)
    for bundle in exercises.drawings(120):
        for edit in bundle:
            request = requested(edit.reasoning)
            if request.op not in seen:
                continue
            seen[request.op] += 1
            if request.op == "color":
                outcome = request.ref.shape, request.value
            else:
                solid = request.ref if request.op == "remove" else request.kind
                outcome = solid.shape, solid.color
            assert outcome not in held_out(request.op)
    assert min(seen.values()) > 10
