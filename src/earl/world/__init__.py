"""The world: procedural scenes, edits of them, and the words for both."""

from earl.world.edits import FAMILIES, held_out
from earl.world.language import Request, parse, phrase
from earl.world.questions import questions
from earl.world.render import render
from earl.world.sampling import sample_scene
from earl.world.scene import Scene, SceneObject
from earl.world.tasks import SPLITS, WorldTask, all_texts, caption, identity_task, sample_group, sample_task

__all__ = [
    "FAMILIES",
    "SPLITS",
    "Request",
    "Scene",
    "SceneObject",
    "WorldTask",
    "all_texts",
    "caption",
    "held_out",
    "identity_task",
    "parse",
    "phrase",
    "questions",
    "render",
    "sample_group",
    "sample_scene",
    "sample_task",
]
