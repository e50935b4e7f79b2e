"""Warnings before an edit that a model was not trained for: other images, other words, reasoning."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from earl.models.catalogue import RELEASED
from earl.registry import DOMAINS

if TYPE_CHECKING:
    from PIL.Image import Image

    from earl.pipeline.edit import EditPipeline


class Domain(Protocol):
    """The one kind of images that a model edits. Registered under the model's name (`DOMAINS`). One whose
    chains of thought have steps has a method `split` besides (`earl.pipeline.steps.Split`).

    Attributes:
        about: what the model can edit, Markdown for people.
        tasks: name of the prompt source that draws such images.
        verifier: name of the verifier that judges such edits.
    """

    about: str
    tasks: str
    verifier: str

    def problems(self, image: Image, instruction: str) -> list[str]:
        """What of an edit lies outside the domain, a clause each."""
        ...


def domain_of(model: str) -> Domain | None:
    """The domain of a model by name; None for one that edits images of all kinds."""
    return DOMAINS.load(model) if ":" not in model and model in DOMAINS else None


def lacking(
    pipeline: EditPipeline, image: Image, instructions: Sequence[str], *, reasoning: bool | None = None
) -> str:
    """One sentence on what the model was not taught of what is asked, and which one was; "" for nothing.

    Args:
        instructions: of a chain of edits that begins with `image`.
        reasoning: whether a chain of thought is asked for; None: as the model was trained.
    """
    problems: list[str] = []
    settings = pipeline.settings
    domain = domain_of(settings.model) if settings else None
    if domain is not None:
        found = (problem for text in instructions for problem in domain.problems(image, text))
        problems = list(dict.fromkeys(found))
    outside = bool(problems)
    if reasoning and pipeline.reasons is False:
        problems.append("it was not trained to reason")
    if not problems:
        return ""
    able = [model for model in RELEASED if model.reasons is bool(reasoning)]
    best = max(able, key=lambda model: model.scores.get("mean", 0.0)).name
    able_to = "edit photographs in free wording" if outside else "reason"
    return (
        f"{pipeline.name!r} was not taught what is asked: {'; '.join(problems)}. Released models {able_to}: "
        f"--model {best} (`earl models` lists all)"
    )
