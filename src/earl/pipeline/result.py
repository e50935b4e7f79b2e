"""Results of an edit, and the best of several."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from earl.errors import ConfigError, EarlError, ImageError, InstructionError, SequenceError, VerifierError
from earl.records import Attempt, Completion, Verdict

if TYPE_CHECKING:
    from earl.verifiers.protocol import Verifier

T = TypeVar("T")

REFUSALS = (ImageError, InstructionError, SequenceError)
"""What is wrong with one edit, whatever the model and its engine do with others."""
GAVE_BACK = "the model gave the image back as it was; ask in other words, or try another seed"
OUTPUT_TYPES = ("pil", "np", "pt")  # the names that diffusion pipelines use


@dataclass(frozen=True, slots=True)
class EditResult:
    """The edits of one image, one per seed.

    Attributes:
        images: RGB images; None where the model wrote no whole image (`problems` says why).
            `as_type` makes arrays or tensors of them.
        completions: what the model wrote.
        seeds: image i came from `seeds[i]`; that seed alone gives it again.
        source: the source as the model saw it.
        instruction: the instruction as it was encoded.
        seconds: wall time from pixels to pixels; of edits made together, of all of them.
        problems: by image, None where there is nothing to say.
        reasoning: by image, the text in front of it, None where there is none.
        unchanged: by image, whether the model gave the source back: its image codes are the source's, every
            one. None where it wrote no image.
        mask: white where the edit was allowed to change the image; None where it was allowed everywhere.
    """

    images: tuple[Image.Image | None, ...]
    completions: tuple[Completion, ...] = field(repr=False)  # hundreds of ids
    seeds: tuple[int, ...]
    source: Image.Image
    instruction: str
    seconds: float
    problems: tuple[str | None, ...]
    reasoning: tuple[str | None, ...]
    unchanged: tuple[bool | None, ...]
    mask: Image.Image | None = field(default=None, repr=False)

    @property
    def image(self) -> Image.Image:
        """The first image there is. Raises SequenceError with the problem where there is none."""
        for image in self.images:
            if image is not None:
                return image
        raise SequenceError(f"the model wrote no image ({self.problems[0]}); try another seed")

    @property
    def notes(self) -> list[str]:
        """A sentence each on images that are the source, given back, and on those that are missing beside
        others."""
        same = [str(seed) for seed, same in zip(self.seeds, self.unchanged, strict=True) if same]
        lost = [place for place, image in enumerate(self.images) if image is None]
        notes = [f"nothing was changed (seed {', '.join(same)}): {GAVE_BACK}"] if same else []
        if 0 < len(lost) < len(self.images):
            seeds = ", ".join(str(self.seeds[place]) for place in lost)
            notes.append(
                f"the model wrote no image (seed {seeds}: {self.problems[lost[0]]}); try another seed"
            )
        return notes

    def keep(self, places: Sequence[int]) -> EditResult:
        """The result with some of its images, in the order of `places`."""
        by_image = ("images", "completions", "seeds", "problems", "reasoning", "unchanged")
        kept: dict[str, Any] = {name: tuple(getattr(self, name)[p] for p in places) for name in by_image}
        return replace(self, **kept)

    def as_type(self, output_type: str) -> EditResult:
        """The result with its images in another type; best of N and verifiers take "pil" alone.

        Args:
            output_type: "pil" as they are; "np" float32 arrays (height, width, 3); "pt" float32 tensors
                (3, height, width), on the CPU. Both hold values in [0, 1]. None stays None.

        Raises:
            ConfigError: another output type.
        """
        check_output_type(output_type)
        if output_type == "pil":
            return self
        import numpy as np

        def convert(image: Image.Image) -> Any:
            array = np.asarray(image, dtype=np.float32) / np.float32(255)
            if output_type == "np":
                return array
            import torch

            return torch.from_numpy(array).permute(2, 0, 1).contiguous()

        return replace(
            self, images=tuple(image if image is None else convert(image) for image in self.images)
        )

    def attempts(self, target: Image.Image | None = None, key: str = "") -> list[Attempt]:
        """The edits as a verifier takes them."""
        return [
            Attempt(self.source, self.instruction, image, target, completion.finish_reason, key)
            for image, completion in zip(self.images, self.completions, strict=True)
        ]


def check_output_type(output_type: object) -> None:
    """Raises ConfigError unless it is one of OUTPUT_TYPES."""
    if output_type not in OUTPUT_TYPES:
        raise ConfigError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}")


def edit_each(
    edit: Callable[[Sequence[T]], list[EditResult]], items: Sequence[T]
) -> list[EditResult | EarlError]:
    """Results of items that are edited together; where one is refused, of each alone, or why it has none."""
    try:
        return list(edit(items))
    except REFUSALS as error:
        if len(items) == 1:
            return [error]
        return [result for item in items for result in edit_each(edit, [item])]


def best_of(result: EditResult, verifier: Verifier) -> tuple[EditResult, Verdict]:
    """Keep the image that a verifier likes best; the first of equals.

    Raises:
        VerifierError: not one of the images could be judged, or one for want of an answer.
    """
    verdicts = asyncio.run(verifier.judge(result.attempts()))
    check_answered(verdicts)
    best = best_index(result.images, verdicts)
    if verdicts[best].overall is None:
        first = verdicts[0]
        raise VerifierError(
            f"none of the {len(verdicts)} edits could be judged ({first.status}): {first.reason}"
        )
    return result.keep([best]), verdicts[best]


def check_answered(verdicts: Sequence[Verdict]) -> None:
    """Raises VerifierError where a verifier did not answer: the best would be one of fewer."""
    lost = [verdict.reason for verdict in verdicts if verdict.status == "unreachable"]
    if lost:
        raise VerifierError(
            f"the verifier did not answer for {len(lost)} of {len(verdicts)} edits ({lost[0]}); run the same "
            "command again to go on"
        )


def best_index(images: Sequence[Image.Image | None], verdicts: Sequence[Verdict]) -> int:
    """Place of the highest overall score, the first of equals; without scores, of the first image, else 0."""

    def rank(place: int) -> float:
        overall = verdicts[place].overall
        return overall if overall is not None else (-2.0 if images[place] is None else -1.0)

    return max(range(len(images)), key=rank)


def worst_index(verdicts: Sequence[Verdict]) -> int:
    """Place of the lowest overall score, the first of equals. At least one verdict has a score."""
    scores = {place: v.overall for place, v in enumerate(verdicts) if v.overall is not None}
    return min(scores, key=lambda place: scores[place])
