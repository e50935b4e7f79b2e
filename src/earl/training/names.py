"""Names in a recipe, checked before anything is loaded."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from earl.config.sections import HeldSource
from earl.config.stages import DpoRecipe, GrpoRecipe, SftRecipe, TokenizerRecipe, TrainingRecipe
from earl.config.verifier import OneVerifier
from earl.data.card import CARD, read_card
from earl.data.tasks import TaskSettings, open_tasks
from earl.errors import ConfigError
from earl.registry import VERIFIERS, WORDINGS


def check_names(recipe: TrainingRecipe) -> None:
    """Check edit families, groups, wordings, and the options of prompt sources and verifiers.

    Shards are looked up in their cards, where they are on this machine.

    Raises:
        ConfigError: a name that stands for nothing.
    """
    if isinstance(recipe, TokenizerRecipe) and recipe.images.origin != "folder":
        images = recipe.images
        settings = TaskSettings("train", images.resolution, "all", images.families, images.options)
        open_tasks(images.origin, settings)
    if isinstance(recipe, (SftRecipe, DpoRecipe)):
        _check_shards("data.sources", recipe.data.sources)
        _check_shards("data.validation_sources", recipe.data.held_back)
    if isinstance(recipe, SftRecipe) and recipe.data.wordings is not None:
        WORDINGS.load(recipe.data.wordings)
    if isinstance(recipe, GrpoRecipe):
        prompts, side = recipe.prompts, round((recipe.model.area or 64 * 64) ** 0.5)
        if prompts.origin != "shards":
            settings = TaskSettings("train", side, prompts.group, prompts.families, prompts.options)
            open_tasks(prompts.origin, settings)
        _check_shards("prompts", prompts.shards)
        _check_shards("heldout", recipe.heldout.held_back)
        for verifier in _verifiers(recipe):
            _check_verifier(verifier)


def _verifiers(recipe: GrpoRecipe) -> Iterator[OneVerifier]:
    for whole in (recipe.verifier, recipe.verifier.second):
        if whole is not None:
            yield from whole.parts.values() if whole.kind == "sum" else [whole]


def _check_verifier(verifier: OneVerifier) -> None:
    factory = VERIFIERS.load(verifier.kind)
    if verifier.judge is None:
        try:
            inspect.signature(factory).bind(**verifier.options)
        except TypeError as error:
            raise ConfigError(
                f"the verifier {verifier.kind!r} does not take these options: {error}"
            ) from error
        except ValueError:  # a built-in function, which does not say what it takes
            return


def _check_shards(section: str, sources: Mapping[str, HeldSource]) -> None:
    for source in sources.values():
        folder = Path(os.path.expanduser(source.path))
        if not source.weight or not os.path.isfile(folder / CARD):
            continue
        card = read_card(folder)
        groups = () if source.group == "all" else (source.group,)
        for kind, wanted in (("families", source.families), ("groups", groups)):
            known = list(card[kind]) if isinstance(card.get(kind), dict) else list(wanted)
            for name in (name for name in wanted if name not in known):
                near = get_close_matches(name, known, n=1, cutoff=0.7)
                named = ", ".join(filter(None, known)) or "not named"
                hint = f"did you mean {near[0]!r}?" if near else f"its {kind} are {named}"
                raise ConfigError(f"{section}: {folder} has no edits of {name!r}; {hint}")
