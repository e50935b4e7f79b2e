"""Scenes shared by the verifier's tests."""

import pytest

from earl.world.scene import Scene, SceneObject


@pytest.fixture
def yard() -> Scene:
    """Three solids, one of them small and striped, on a meadow by day."""
    return Scene(
        "meadow",
        "day",
        (
            SceneObject("cube", "red", 0, 1, dx=0.005),
            SceneObject("sphere", "blue", 2, 0, dy=-0.008),
            SceneObject("cone", "yellow", 3, 1, "small", "striped"),
        ),
    )
