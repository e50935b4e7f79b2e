"""What an outcome is worth: what was asked, a cheap part of it, or damage beside it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from earl.records import OUTCOMES
from earl.world.goals import FAILED_CEILING, check, resolve
from earl.world.scene import COLORS
from earl.world.tasks import sample_task

TASKS = [sample_task(number, "validation", ("remove",)) for number in range(40)]
CROWDED = [task for task in TASKS if len(task.source.objects) >= 3]


@pytest.mark.parametrize("task", CROWDED[:8], ids=lambda task: task.id)
def test_erasing_everything_is_no_removal(task):
    named = resolve(task.request.ref, task.source)
    right = check(task.request, task.source, task.target)
    assert right.exact and right.over_editing == 10.0
    empty = check(task.request, task.source, replace(task.source, objects=()))
    assert empty.edit_success == 10.0 and empty.over_editing == 0.0
    neighbour = next(o for o in task.target.objects if o is not named)
    harmed = check(task.request, task.source, task.target.without(neighbour))
    left = (len(task.target.objects) - 1) / len(task.target.objects)
    assert harmed.over_editing == pytest.approx(FAILED_CEILING * left**4)


def test_another_background_is_not_outweighed_by_solids_left_alone():
    task = CROWDED[0]
    other = "desert" if task.source.background != "desert" else "snow"
    assert check(task.request, task.source, replace(task.target, background=other)).over_editing == 0.0


@pytest.mark.parametrize("number", range(6))
def test_taking_a_solid_away_is_a_small_part_of_moving_it(number):
    task = sample_task(number, "validation", ("move",))
    gone = check(task.request, task.source, task.source.without(resolve(task.request.ref, task.source)))
    assert gone.edit_success == pytest.approx(FAILED_CEILING / 4) and gone.over_editing == 10.0
    assert check(task.request, task.source, task.source).edit_success == 0.0
    assert check(task.request, task.source, task.target).exact


def test_what_an_edit_did_has_a_name():
    task = next(
        t for number in range(200) if len((t := sample_task(number, "test", ["color"])).source.objects) > 1
    )
    source, target = task.source, task.target
    mine = resolve(task.request.ref, source)
    other = next(o for o in source.objects if o.place != mine.place)
    color = next(c for c in COLORS if c not in (mine.color, task.request.value))
    repainted = source.swapped_for(mine, replace(mine, color=color))
    told = {
        "exact": target,
        "untouched": source,
        "elsewhere": source.without(other),
        "also elsewhere": target.without(other),
        "wrong": repainted,
        "wrong, also elsewhere": repainted.without(other),
    }
    assert tuple(told) == OUTCOMES
    assert {name: check(task.request, source, seen).result for name, seen in told.items()} == {
        name: name for name in OUTCOMES
    }
    empty = check(task.request, source, replace(source, background="other", objects=()))
    assert empty.result == "wrong, also elsewhere"
