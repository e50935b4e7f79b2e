"""Questions about a picture: answers cell by cell that agree with its pixels and with its record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from earl.world.rendering import object_map, render
from earl.world.sampling import sample_scene
from earl.world.scene import Scene, SceneObject
from earl.world.scene_questions import cell_objects, questions

CUBE = SceneObject("cube", "red", 0, 1)
BALL = SceneObject("sphere", "blue", 3, 0, size="small", texture="striped")
PAIR = Scene("meadow", "day", (CUBE, BALL))


def asked(scene: Scene, count: int, seed: int = 0, first: int = 0) -> list[tuple[str, str]]:
    return questions(scene, np.random.default_rng(seed), count, first=first)


def found_in(scene: Scene, answer: str) -> set[int]:
    """The numbers of the solids whose cells an answer marks."""
    pairs = zip(cell_objects(scene).ravel(), answer.split(), strict=True)
    return {int(number) for number, word in pairs if word == "object"}


def test_the_map_shows_what_is_drawn() -> None:
    """Where a solid is drawn the map says so: those pixels are not an empty scene's, and few others
    above the shadows are."""
    for seed in range(20):
        scene = sample_scene(np.random.default_rng(seed), stacks=0.5, posed=0.5)
        numbers, whole = object_map(scene, 64), render(scene, 64).astype(int)
        assert set(np.unique(numbers)) <= {-1, *range(len(scene.objects))}
        empty = render(Scene(scene.background, scene.style, ()), 64).astype(int)
        differs = (np.abs(whole - empty) > 2).any(-1)
        inside = numbers >= 0
        assert inside.mean() > 0.02 and differs[inside].mean() > 0.98
        above = np.zeros_like(inside)
        above[:12] = True  # no shadow falls on the sky
        assert not (differs & above & ~inside)[:, :].mean() > 0.02


def test_readings_name_what_stands_in_each_cell() -> None:
    found = dict(asked(PAIR, 8)[::2])
    assert list(found) == [f"the {a} of all objects" for a in ("color", "shape", "size", "texture")]
    cells = cell_objects(PAIR).ravel()
    assert (cells == PAIR.objects.index(CUBE)).sum() >= 4 and (cells == PAIR.objects.index(BALL)).sum() >= 1
    for attribute in ("color", "shape", "size", "texture"):
        words = found[f"the {attribute} of all objects"].split()
        expected = [getattr(PAIR.objects[n], attribute) if n >= 0 else "background" for n in cells]
        assert words == expected
    assert asked(PAIR, 1, first=2)[0][0] == "the size of all objects"
    alike = Scene("meadow", "day", (CUBE, replace(CUBE, column=2, color="blue")))
    assert {question for question, _ in asked(alike, 6)[::2]} == {"the color of all objects"}


def test_finding_marks_all_that_the_words_fit() -> None:
    seen: set[str] = set()
    for seed in range(60):
        (_, _), (question, answer) = asked(PAIR, 2, seed)
        marked = found_in(PAIR, answer)
        assert -1 not in marked and len(answer.split()) == 64
        names = {PAIR.objects.index(obj): obj for obj in (CUBE, BALL)}
        for number, obj in names.items():
            if f"the {obj.color} {obj.shape}" in question and " the one " not in question:
                assert marked == {number}
        if question == "find the objects":
            assert marked == {0, 1}
        if "first object from the left" in question or "second object from the right" in question:
            assert marked == {PAIR.objects.index(CUBE)}
        seen.add(question)
    assert "find the red cube" in seen and any("from the" in q for q in seen) and len(seen) > 8


def test_a_relation_finds_one_of_two() -> None:
    behind = SceneObject("cone", "green", 0, 0)
    scene = Scene("snow", "day", (CUBE, behind))
    marked: set[int] = set()
    for seed in range(60):
        question, answer = asked(scene, 2, seed)[1]
        if question == "find the one behind the red cube":
            marked |= found_in(scene, answer)
    assert marked == {scene.objects.index(behind)}


def test_an_empty_scene_has_answers_too() -> None:
    for _, answer in asked(Scene("desert", "day", ()), 4):
        assert answer.split() == ["background"] * 64


def test_other_resolutions_have_more_cells() -> None:
    (_, answer), _ = questions(PAIR, np.random.default_rng(0), 2, resolution=128)
    assert len(answer.split()) == 256 and answer.split().count("red") > 12
