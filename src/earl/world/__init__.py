"""The world: procedural scenes, edits of them, and the words for both."""

from earl.world.render import render
from earl.world.sampling import sample_scene
from earl.world.scene import Scene, SceneObject

__all__ = ["Scene", "SceneObject", "render", "sample_scene"]
