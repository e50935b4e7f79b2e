"""Plans and their steps."""

import pytest

from earl.world.plans import plan, steps
from earl.world.tasks import sample_task


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "blue cone front left: red cube; red cube front right: blue cone",
            ["change the blue cone to a red cube", "change the red cube to a blue cone"],
        ),
        (
            "background: desert; small striped red cone back far left: nothing",
            ["move the scene to a desert", "get rid of the small striped red cone"],
        ),
        (
            "small blue cone front left: blue cone; red cube back left top: green cube",
            ["enlarge the small blue cone", "change the color of the red cube to green"],
        ),
        (
            "red cone front left: toppled red cone; red chest back right: striped open red chest",
            ["knock over the red cone", "change the red chest to a striped red chest"],
        ),
        (
            "nothing front left: red cube; nothing front right: red cube",
            ["put a red cube in the picture", "put a red cube in the picture"],
        ),
        ("red cube front left: nothing; nothing front right: red cube", []),
        ("red cube front left: blue cube", []),
        ("nothing", []),
        ("", []),
        ("style: night; make it nice", []),
        ("red cube front left: red cube; style: night", []),
    ],
)
def test_a_plan_of_several_changes_has_steps(text, said):
    assert [words for words, _ in steps(text)] == said
    assert [part for _, part in steps(text)] == (text.split("; ") if said else [])


@pytest.mark.parametrize("family", ["double", "swap", "gather", "count"])
def test_every_part_of_a_true_plan_is_read(family):
    for seed in range(40):
        task = sample_task(seed, "train", [family])
        text = plan(task.source, task.target)
        found = steps(text)
        assert found == [] or "; ".join(part for _, part in found) == text
        if family in ("double", "swap"):
            assert len(found) == text.count(";") + 1 > 1
