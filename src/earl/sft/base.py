"""The base stage of a model from scratch: captions, pictures and copying, before any edit.

Emu3 had such a stage too (`BAAI/Emu3-Stage1` is where the published SFT starts): a model that
knows what the words look like, and that can copy a picture, learns to edit from fewer edits.
"""

from __future__ import annotations

from typing import Literal, cast

from earl.config.stages import BaseRecipe
from earl.data.examples import Example, Task, whole_example
from earl.data.mixture import Mixture
from earl.data.shards import Edit, EditShards
from earl.sft.stage import PolicyStage
from earl.training.loop import Report
from earl.training.streams import derive_seed

TASKS: tuple[Task, ...] = ("caption_to_image", "image_to_caption", "identity")


def train_base(recipe: BaseRecipe) -> Report:
    """Run or continue the base stage; leaves `run.folder/model`.

    Both pictures of every edit in the sources are used, with their captions; the loss is on all
    tokens that the grammar does not force.

    Raises:
        EarlError: see `PolicyStage` and `Trainer`.
    """
    stage = PolicyStage(recipe)

    def encode(name: str, index: int) -> list[Example]:
        task, _, source = name.partition(":")
        side = cast(Literal[0, 1], index % 2)
        return [whole_example(stage.sources[source][index // 2], side, cast(Task, task), stage.tokenizer)]

    def held_back(index: int, edit: Edit) -> tuple[str, Example]:
        task = TASKS[index % len(TASKS)]
        return task, whole_example(edit, 0, task, stage.tokenizer)

    return stage.train(base_mixture(recipe, stage.sources), encode, stage.validator(held_back))


def base_mixture(recipe: BaseRecipe, sources: dict[str, EditShards]) -> Mixture:
    """Every source once for each task, in the recipe's shares; both pictures of an edit count."""
    shares = {task: float(getattr(recipe.tasks, task)) for task in TASKS}
    names = [(task, source) for task in TASKS for source in sources]
    return Mixture(
        {f"{task}:{source}": 2 * len(sources[source]) for task, source in names},
        {f"{task}:{source}": shares[task] * recipe.data.sources[source].weight / 2 for task, source in names},
        seed=derive_seed(recipe.run.seed, "mixture"),
    )
