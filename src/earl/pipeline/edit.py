"""Editing of images with one engine and one vision tokenizer."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from PIL import Image

from earl.errors import ConfigError, InstructionError, ModelFormatError
from earl.pipeline.result import EditResult, check_output_type
from earl.pipeline.steps import Split, carry_out
from earl.records import Completion, Grid
from earl.sequence.instruction import NEGATIVE_INSTRUCTION, check_instruction
from earl.sequence.layout import parse_completion, write_prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from earl.config import ModelSettings, SamplingSettings
    from earl.sampling import Engine, OnRow, Request
    from earl.vision.images import ImageSource
    from earl.vision.tokenizer import VisionTokenizer


_ALIASES = {"guidance_scale": "guidance"}  # names that users of diffusion pipelines know


@dataclass(frozen=True, slots=True)
class PreparedEdit:
    """One edit on its way through: its source resized and encoded, its prompt written."""

    source: Image.Image
    given_size: tuple[int, int]  # px, of the image that was given
    instruction: str
    request: Request
    mask: Image.Image | None = None  # white where the image may change, at the size that was given


class EditPipeline:
    """Edits images with one engine and one vision tokenizer.

    Args:
        engine: samples completions; holds the policy and its text tokenizer.
        vision: turns pixels into codes and back.
        name: what to call the model in reports.

    Raises:
        ModelFormatError: the two have codebooks of different sizes.
    """

    def __init__(self, engine: Engine, vision: VisionTokenizer, *, name: str = "model") -> None:
        self.engine, self.vision, self.name = engine, vision, name
        self.tokenizer = engine.tokenizer
        self.settings: ModelSettings | None = None  # what it was loaded by
        self.reasons: bool | None = None  # whether it was trained to; None where that is not known
        self.split: Split | None = None  # of its chains of thought into steps
        self._lock: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        if vision.codebook_size != self.tokenizer.vocabulary.codebook_size:
            raise ModelFormatError(
                f"{name}: the vision tokenizer has {vision.codebook_size} codes, the text tokenizer "
                f"{self.tokenizer.vocabulary.codebook_size} visual tokens; they do not belong together"
            )

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path = "world", **fields: Any) -> EditPipeline:
        """Load the parts of a model; see `build_pipeline`.

        Args:
            name_or_folder: "world" (shipped), a folder, a LoRA adapter's folder, or a hub id.
            fields: of `earl.config.ModelSettings`, such as `device="cuda"`.
        """
        from earl.config import ModelSettings
        from earl.pipeline.build import build_pipeline

        given: dict[str, Any] = {
            name: str(value) if isinstance(value, Path) else value for name, value in fields.items()
        }
        return build_pipeline(ModelSettings(model=str(name_or_folder), **given))

    def __call__(
        self,
        image: ImageSource | Sequence[ImageSource],
        instruction: str | Sequence[str] | None = None,
        sampling: SamplingSettings | None = None,
        *,
        num_images: int = 1,
        area: int | None = None,
        restore_size: bool = False,
        mask: ImageSource | None = None,
        on_row: OnRow | None = None,
        **fields: Any,
    ) -> EditResult | Any:
        """Edit one image, or several together.

        Args:
            image: a PIL image, a path, the bytes of an image file, a numpy array or a torch tensor (see
                `earl.vision.images.open_image`); or a list of them.
            instruction: what to change, 1 to 2,000 characters; or a list. One image with several
                instructions, and several images with one, are paired up. Also `prompt=`.
            num_images: how many to draw, >= 1; image i is drawn with seed + i. Also `num_images_per_prompt=`.
            sampling, area, restore_size, mask, on_row: see `edit_many`.
            fields: see `edit_many`; `guidance_scale` is `guidance`, and `seed=None` draws a seed.
                `output_type="np"` or `"pt"` turns the result's images into arrays or tensors
                (`EditResult.as_type`); "pil" is the default.

        Returns:
            An `EditResult`; a list of them where images or instructions were a list.

        Raises:
            ImageError: no image, one of an aspect that cannot be edited, a mask of another size, or one that
                leaves nothing to change.
            InstructionError: empty, or too long for the model.
            ConfigError: sampling settings out of range; lists of two lengths; something given twice.
        """
        for theirs, ours in _ALIASES.items():
            if theirs in fields:
                fields[ours] = fields.pop(theirs) if ours not in fields else _twice(theirs, ours)
        if "prompt" in fields:
            instruction = fields.pop("prompt") if instruction is None else _twice("prompt", "instruction")
        if "num_images_per_prompt" in fields:
            given = fields.pop("num_images_per_prompt")
            num_images = given if num_images == 1 else _twice("num_images_per_prompt", "num_images")
        output_type = fields.pop("output_type", "pil")
        check_output_type(output_type)  # before the model works for nothing
        if instruction is None:
            raise InstructionError(
                "no instruction was given; say what to change, as pipeline(image, 'make it night')"
            )
        results = self.edit_many(
            _pair_up(image, instruction),
            sampling,
            num_images=num_images,
            area=area,
            restore_size=restore_size,
            mask=mask,
            on_row=on_row,
            **fields,
        )
        results = [result.as_type(output_type) for result in results]
        several = isinstance(image, list | tuple) or isinstance(instruction, list | tuple)
        return results if several else results[0]

    async def edit_async(self, image: Any, instruction: Any = None, **options: Any) -> Any:
        """`__call__` in a thread, one at a time; for servers that must not block their event loop."""
        async with self._turn():
            return await asyncio.to_thread(self, image, instruction, **options)

    def to(self, device: str) -> EditPipeline:
        """Load the same model on another device ("cpu", "cuda:1"); returns this pipeline.

        Raises:
            ConfigError: the device is not there, or the pipeline was made of parts in memory.
        """
        from earl.pipeline.build import build_pipeline

        if self.settings is None:
            raise ConfigError("this pipeline was made of parts in memory; move those, and make it anew")
        moved = build_pipeline(self.settings.replace(device=device))
        self.engine, self.vision, self.settings = moved.engine, moved.vision, moved.settings
        self.tokenizer, self.reasons, self.split = moved.tokenizer, moved.reasons, moved.split
        return self

    def __repr__(self) -> str:
        return f"EditPipeline({self.name!r}, area={self.vision.area}, device={str(self.vision.device)!r})"

    def _turn(self) -> asyncio.Lock:
        """The lock of the running event loop."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock[0] is not loop:
            self._lock = (loop, asyncio.Lock())
        return self._lock[1]

    def edit_many(
        self,
        pairs: Sequence[tuple[ImageSource, str]],
        sampling: SamplingSettings | None = None,
        *,
        seeds: Sequence[int] | None = None,
        num_images: int = 1,
        area: int | None = None,
        restore_size: bool = False,
        mask: ImageSource | None = None,
        on_row: OnRow | None = None,
        **fields: Any,
    ) -> list[EditResult]:
        """Edit several images together, of any sizes.

        Args:
            pairs: (image, instruction) of each edit, each as in `__call__`.
            sampling: how to draw; the defaults of `SamplingSettings` when None.
            seeds: the first seed of each edit, in place of `sampling.seed` for all.
            num_images: how many to draw of each, >= 1.
            area: px² to work at; the model's own when None.
            restore_size: scale the results to the size of their sources.
            mask: of every image, at its size: transparent, or white, where it may change. Outside, the codes
                are the source's; `keep_outside` puts the source's own pixels there.
            on_row: called by the engine as rows of image codes are done; where an edit takes several steps
                (`earl.pipeline.steps`), of its first drawing alone.
            fields: of `SamplingSettings`, in place of those of `sampling`: `temperature=0.5`, `greedy=True`;
                `seed=None` draws one.

        Returns:
            Results in the order of `pairs`.

        Raises:
            ImageError, InstructionError, ConfigError: as `__call__`; also as many seeds as edits are needed.
        """
        from earl.config import SamplingSettings

        began = time.perf_counter()
        if "seed" in fields and fields["seed"] is None:
            fields["seed"] = secrets.randbelow(2**53)
        sampling = (sampling or SamplingSettings()).replace(**fields) if fields or not sampling else sampling
        firsts = [sampling.seed] * len(pairs) if seeds is None else list(seeds)
        if len(firsts) != len(pairs):
            raise ConfigError(f"{len(firsts)} seeds for {len(pairs)} edits; give one for each, or none")
        if num_images < 1:
            raise ConfigError(f"num_images must be at least 1, got {num_images}")
        if not pairs:
            return []
        seeds_of = [range(first, first + num_images) for first in firsts]
        edits = self.prepare(pairs, sampling, seeds_of, area, mask)
        completions = self.engine.generate([edit.request for edit in edits], sampling, on_row=on_row)
        completions = carry_out(self, [edit.request for edit in edits], completions, sampling)
        results = self.read(edits, completions, restore_size)
        seconds = time.perf_counter() - began
        return [replace(result, seconds=seconds) for result in results]

    def prepare(
        self,
        pairs: Sequence[tuple[ImageSource, str]],
        sampling: SamplingSettings,
        seeds: Sequence[Sequence[int]],
        area: int | None = None,
        mask: ImageSource | None = None,
    ) -> list[PreparedEdit]:
        """Resize and encode the sources and write the prompts; raises as `edit_many`."""
        from earl.sampling import Request
        from earl.vision.compose import given_codes, open_mask
        from earl.vision.images import open_image, resize_to, target_size

        negative = None
        if sampling.guided:
            wanted = sampling.negative_instruction
            negative = check_instruction(
                NEGATIVE_INSTRUCTION if wanted is None else wanted, "the negative instruction"
            )
        instructions = [check_instruction(instruction) for _, instruction in pairs]
        given = [open_image(image) for image, _ in pairs]
        masks = [None if mask is None else open_mask(mask, image.size) for image in given]
        sizes = [target_size(*image.size, area or self.vision.area, self.vision.rule) for image in given]
        for width, height in sizes:  # before an image is scaled up to what no model takes
            self._check_length(2 * (width // self.vision.cell) * (height // self.vision.cell))
        sources = [resize_to(image, size) for image, size in zip(given, sizes, strict=True)]
        edits = []
        for i, codes_HW in enumerate(self.vision.encode(sources, resize=False)):
            request = Request(
                prompt=tuple(write_prompt(codes_HW, instructions[i], self.tokenizer)),
                seeds=tuple(seeds[i]),
                grid=Grid(*map(int, codes_HW.shape)),
                prefill="reasoning" if self.thinks(sampling.reasoning) else "size",
                max_text_tokens=sampling.max_text_tokens,
                negative_prompt=tuple(write_prompt(codes_HW, negative, self.tokenizer)) if negative else None,
                draft=tuple(codes_HW.ravel().tolist()),
                given=given_codes(codes_HW, masks[i]),
            )
            longest = max(map(len, (request.prompt, request.negative_prompt or ())))
            self._check_length(longest + request.grammar(self.tokenizer).max_length)
            edits.append(PreparedEdit(sources[i], given[i].size, instructions[i], request, masks[i]))
        return edits

    def thinks(self, asked: bool | None) -> bool:
        """Whether a chain of thought is written: as asked; where nothing is, as the model was trained."""
        return bool(self.reasons) if asked is None else asked

    def keep_outside(self, source: Image.Image, edited: Image.Image, result: EditResult) -> Image.Image:
        """An edited image at the source's full size, with the source's own pixels outside its mask; without
        a mask, where nothing changed.

        Args:
            source: RGB, as it was given.
            edited: one of the result's images.
            result: what it belongs to.
        """
        from earl.vision.compose import keep_outside

        inside = self.changed(edited, result) if result.mask is None else result.mask
        return keep_outside(source, edited, inside)

    def changed(self, edited: Image.Image, result: EditResult) -> Image.Image:
        """A mask of what an edit changed, mode L, white there.

        Args:
            edited: one of the result's images.
            result: what it belongs to.
        """
        from earl.vision.compose import changed_cells, mask_of

        (before,) = self.vision.decode(self.vision.encode([result.source], resize=False))
        return mask_of(changed_cells(before, edited))

    def _check_length(self, tokens: int) -> None:
        if tokens > self.engine.max_positions:
            raise InstructionError(
                f"source, instruction and edited image need {tokens} tokens or more, {self.name} takes "
                f"{self.engine.max_positions}; shorten the instruction or give a smaller area"
            )

    def read(
        self,
        edits: Sequence[PreparedEdit],
        completions: Sequence[Sequence[Completion]],
        restore_size: bool = False,
        one_by_one: bool = False,
    ) -> list[EditResult]:
        """Read and decode the completions of prepared edits.

        Args:
            one_by_one: decode each image alone. In a batch convolutions may round otherwise, and a level or
                two of an image then depends on the others.
        """
        parsed = [[parse_completion(c.ids, self.tokenizer) for c in group] for group in completions]
        codes = [p.codes for group in parsed for p in group if p.codes is not None]
        groups = [[grid] for grid in codes] if one_by_one else [codes] if codes else []
        decoded = (image for grids in groups for image in self.vision.decode(grids))
        results = []
        for edit, group, readings in zip(edits, completions, parsed, strict=True):
            images = [next(decoded) if reading.codes is not None else None for reading in readings]
            if restore_size:
                images = [
                    image and image.resize(edit.given_size, Image.Resampling.LANCZOS) for image in images
                ]
            results.append(
                EditResult(
                    images=tuple(images),
                    completions=tuple(group),
                    seeds=edit.request.seeds,
                    source=edit.source,
                    instruction=edit.instruction,
                    seconds=0.0,
                    problems=tuple(reading.problem for reading in readings),
                    reasoning=tuple(reading.reasoning for reading in readings),
                    unchanged=tuple(_is_source(reading.codes, edit.request) for reading in readings),
                    mask=edit.mask,
                )
            )
        return results


def _is_source(codes_HW: NDArray[Any] | None, request: Request) -> bool | None:
    """Whether image codes are the source's; None where there are none."""
    if codes_HW is None:
        return None
    return Grid(*codes_HW.shape) == request.grid and tuple(codes_HW.ravel().tolist()) == request.draft


def _twice(theirs: str, ours: str) -> NoReturn:
    raise ConfigError(f"{theirs} is another name of {ours}; give one of them")


def _pair_up(
    image: ImageSource | Sequence[ImageSource], instruction: str | Sequence[str]
) -> list[tuple[Any, str]]:
    """(image, instruction) of each edit. Raises ConfigError for lists of two lengths."""
    images = list(image) if isinstance(image, list | tuple) else None
    instructions = list(instruction) if isinstance(instruction, list | tuple) else None
    count = len(images if images is not None else instructions if instructions is not None else [0])
    images = [image] * count if images is None else images
    instructions = [instruction] * count if instructions is None else instructions
    if len(images) != len(instructions):
        raise ConfigError(
            f"{len(images)} images and {len(instructions)} instructions; give as many of each, or one"
        )
    return list(zip(images, instructions, strict=True))
