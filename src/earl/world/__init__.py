"""The world: procedural scenes, edits of them, and the words for both.

Names are loaded on first use: the shipped model lies in here, and an edit with it needs no scenes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from earl.world.edits import FAMILIES, held_out
    from earl.world.language import Request, parse, phrase
    from earl.world.rendering import render
    from earl.world.sampling import sample_scene
    from earl.world.scene import Scene, SceneObject
    from earl.world.scene_questions import questions
    from earl.world.tasks import (
        SPLITS,
        WorldTask,
        all_texts,
        caption,
        sample_group,
        sample_task,
    )

_HOMES = {
    "FAMILIES": "edits",
    "held_out": "edits",
    "Request": "language",
    "parse": "language",
    "phrase": "language",
    "questions": "scene_questions",
    "render": "rendering",
    "sample_scene": "sampling",
    "Scene": "scene",
    "SceneObject": "scene",
    "SPLITS": "tasks",
    "WorldTask": "tasks",
    "all_texts": "tasks",
    "caption": "tasks",
    "sample_group": "tasks",
    "sample_task": "tasks",
}

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
    "parse",
    "phrase",
    "questions",
    "render",
    "sample_group",
    "sample_scene",
    "sample_task",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"earl.world.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'earl.world' has no attribute {name!r}")
