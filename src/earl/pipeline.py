"""The editing pipeline: image and instruction in, edited images out.

An edit goes vision (codes of the source) → sequence (prompt) → sampling (completion) → sequence (codes of
the edited image) → vision (pixels). `build_pipeline` is the one function that puts these parts together.

The images come out at the size the model works at (its area in px², the source's aspect, sides multiples
of 8). Each image is drawn from its own random stream, whatever else is in the batch; rounding (bfloat16
above all) can still tip a near tie between two codes.

Axis letters: H W latent rows and columns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from earl.errors import ConfigError, InstructionError, ModelFormatError, SequenceError, VerifierError
from earl.models.resolve import resolve_model
from earl.records import Attempt, Completion, Grid, Verdict
from earl.sequence import (
    NEGATIVE_INSTRUCTION,
    TextTokenizer,
    check_instruction,
    parse_completion,
    write_prompt,
)

if TYPE_CHECKING:
    from earl.config import EngineSettings, ModelSettings, SamplingSettings
    from earl.sampling import Engine, OnRow, Request
    from earl.verifiers.protocol import Verifier
    from earl.vision import ImageSource, VisionTokenizer


@dataclass(frozen=True, slots=True)
class EditResult:
    """The edits of one image, one per seed.

    Attributes:
        images: RGB images; None where the model wrote no whole image (`problems` says why).
        completions: what the model wrote.
        seeds: image i came from `seeds[i]`; that seed alone gives it again.
        source: the source as the model saw it.
        instruction: the instruction as it was encoded.
        seconds: wall time from pixels to pixels; of edits made together, of all of them.
        problems: by image, None where there is nothing to say.
        reasoning: by image, the text in front of it, None where there is none.
    """

    images: tuple[Image.Image | None, ...]
    completions: tuple[Completion, ...]
    seeds: tuple[int, ...]
    source: Image.Image
    instruction: str
    seconds: float
    problems: tuple[str | None, ...]
    reasoning: tuple[str | None, ...]

    @property
    def image(self) -> Image.Image:
        """The first image there is. Raises SequenceError with the problem where there is none."""
        for image in self.images:
            if image is not None:
                return image
        raise SequenceError(f"the model wrote no image ({self.problems[0]}); try another seed")

    def keep(self, places: Sequence[int]) -> EditResult:
        """The result with some of its images, in the order of `places`."""
        lists = ("images", "completions", "seeds", "problems", "reasoning")
        return replace(
            self, **{name: tuple(getattr(self, name)[place] for place in places) for name in lists}
        )

    def attempts(self, target: Image.Image | None = None, key: str = "") -> list[Attempt]:
        """The edits as a verifier takes them."""
        return [
            Attempt(self.source, self.instruction, image, target, completion.finish_reason, key)
            for image, completion in zip(self.images, self.completions, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class PreparedEdit:
    """One edit on its way through: its source resized and encoded, its prompt written."""

    source: Image.Image
    given_size: tuple[int, int]  # px, of the image that was given
    instruction: str
    request: Request


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

        given: dict[str, Any] = {
            name: str(value) if isinstance(value, Path) else value for name, value in fields.items()
        }
        return build_pipeline(ModelSettings(model=str(name_or_folder), **given))

    def __call__(
        self,
        image: ImageSource,
        instruction: str,
        sampling: SamplingSettings | None = None,
        *,
        num_images: int = 1,
        area: int | None = None,
        restore_size: bool = False,
        on_row: OnRow | None = None,
        **fields: Any,
    ) -> EditResult:
        """Edit one image.

        Args:
            image: a PIL image, a path, or the bytes of an image file.
            instruction: what to change, 1 to 2,000 characters.
            num_images: how many to draw, >= 1; image i is drawn with seed + i.
            sampling, area, restore_size, on_row, fields: see `edit_many`.

        Raises:
            ImageError: no image, or one of an aspect that cannot be edited.
            InstructionError: empty, or too long for the model.
            ConfigError: sampling settings out of range.
        """
        return self.edit_many(
            [(image, instruction)],
            sampling,
            num_images=num_images,
            area=area,
            restore_size=restore_size,
            on_row=on_row,
            **fields,
        )[0]

    def edit_many(
        self,
        pairs: Sequence[tuple[ImageSource, str]],
        sampling: SamplingSettings | None = None,
        *,
        seeds: Sequence[int] | None = None,
        num_images: int = 1,
        area: int | None = None,
        restore_size: bool = False,
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
            on_row: called by the engine as rows of image codes are done.
            fields: of `SamplingSettings`, in place of those of `sampling`: `temperature=0.5`, `greedy=True`.

        Returns:
            Results in the order of `pairs`.

        Raises:
            ImageError, InstructionError, ConfigError: as `__call__`; also as many seeds as edits are needed.
        """
        from earl.config import SamplingSettings

        began = time.perf_counter()
        sampling = (sampling or SamplingSettings()).replace(**fields) if fields or not sampling else sampling
        firsts = [sampling.seed] * len(pairs) if seeds is None else list(seeds)
        if len(firsts) != len(pairs):
            raise ConfigError(f"{len(firsts)} seeds for {len(pairs)} edits; give one for each, or none")
        if num_images < 1:
            raise ConfigError(f"num_images must be at least 1, got {num_images}")
        if not pairs:
            return []
        edits = self.prepare(pairs, sampling, [range(s, s + num_images) for s in firsts], area)
        completions = self.engine.generate([edit.request for edit in edits], sampling, on_row=on_row)
        results = self.read(edits, completions, restore_size)
        seconds = time.perf_counter() - began
        return [replace(result, seconds=seconds) for result in results]

    def prepare(
        self,
        pairs: Sequence[tuple[ImageSource, str]],
        sampling: SamplingSettings,
        seeds: Sequence[Sequence[int]],
        area: int | None = None,
    ) -> list[PreparedEdit]:
        """Resize and encode the sources and write the prompts; raises as `edit_many`."""
        from earl.sampling import Request
        from earl.vision import open_image, resize_to, target_size

        negative = None
        if sampling.guided:
            wanted = sampling.negative_instruction
            negative = check_instruction(
                NEGATIVE_INSTRUCTION if wanted is None else wanted, "the negative instruction"
            )
        instructions = [check_instruction(instruction) for _, instruction in pairs]
        given = [open_image(image) for image, _ in pairs]
        sizes = [target_size(*image.size, area or self.vision.area, self.vision.rule) for image in given]
        sources = [resize_to(image, size) for image, size in zip(given, sizes, strict=True)]
        edits = []
        for i, codes_HW in enumerate(self.vision.encode(sources, resize=False)):
            request = Request(
                prompt=tuple(write_prompt(codes_HW, instructions[i], self.tokenizer)),
                seeds=tuple(seeds[i]),
                grid=Grid(*map(int, codes_HW.shape)),
                prefill="reasoning" if sampling.reasoning else "size",
                max_text_tokens=sampling.max_text_tokens,
                negative_prompt=tuple(write_prompt(codes_HW, negative, self.tokenizer)) if negative else None,
                draft=tuple(codes_HW.ravel().tolist()),
            )
            self._check_length(request)
            edits.append(PreparedEdit(sources[i], given[i].size, instructions[i], request))
        return edits

    def keep_outside(self, source: Image.Image, edited: Image.Image, result: EditResult) -> Image.Image:
        """An edited image at the source's full size, with the source's own pixels where nothing changed.

        Args:
            source: RGB, as it was given.
            edited: one of the result's images.
            result: what it belongs to.
        """
        from earl.vision.compose import changed_cells, keep_outside, mask_of

        (before,) = self.vision.decode(self.vision.encode([result.source], resize=False))
        return keep_outside(source, edited, mask_of(changed_cells(before, edited)))

    def _check_length(self, request: Request) -> None:
        longest = max(map(len, (request.prompt, request.negative_prompt or ())))
        longest += request.grammar(self.tokenizer).max_length
        if longest > self.engine.max_positions:
            raise InstructionError(
                f"source, instruction and edited image need {longest} tokens, {self.name} takes "
                f"{self.engine.max_positions}; shorten the instruction or give a smaller area"
            )

    def read(
        self,
        edits: Sequence[PreparedEdit],
        completions: Sequence[Sequence[Completion]],
        restore_size: bool = False,
    ) -> list[EditResult]:
        """Read and decode the completions of prepared edits."""
        parsed = [[parse_completion(c.ids, self.tokenizer) for c in group] for group in completions]
        codes = [p.codes for group in parsed for p in group if p.codes is not None]
        decoded = iter(self.vision.decode(codes) if codes else [])
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
                )
            )
        return results


def build_pipeline(
    settings: EngineSettings | None = None,
    *,
    policy: Any = None,
    tokenizer: TextTokenizer | None = None,
    vision: VisionTokenizer | None = None,
    **engine_options: Any,
) -> EditPipeline:
    """Build an editing pipeline: load a model's parts, or take those in memory, and make the engine.

    The policy that is loaded for the native engine mostly holds weights alone (`earl.policy.open_policy`);
    `earl.load_policy` gives the transformers model, which has a forward pass.

    Args:
        settings: which model, where and how, with which engine; the shipped model when None. Where all three
            parts are given, only the fields of `EngineSettings` are used.
        policy: a policy in memory, as one in training, in place of the model's; its current weights are
            read at each call, where those of a loaded one are read once.
        tokenizer, vision: its text tokenizer and vision tokenizer, in place of the model's.
        engine_options: see `earl.sampling.create_engine`.

    Raises:
        ModelNotFoundError, ModelFormatError, TokenizerError: a part is missing or damaged.
        ConfigError: CUDA is asked for and not there; a device map that cannot be.
        MissingExtraError, EngineError: vLLM is not installed, cannot be started or reached.
    """
    from earl.config import ModelSettings
    from earl.sampling import create_engine

    settings = settings or ModelSettings()
    name, frozen = "model", False
    if policy is None or tokenizer is None or vision is None:
        assert isinstance(settings, ModelSettings), "parts are loaded by the settings of a model"
        name, device = settings.model, pick_device(settings.device)
        folder = resolve_model(
            settings.model, settings.revision, tokenizer=settings.tokenizer, vision=settings.vision
        )
        tokenizer = tokenizer or TextTokenizer.from_folder(folder.need("tokenizer"))
        if vision is None:
            from earl.vision import load_vision_tokenizer

            # The area in earl.json belongs to the whole model: where there is one, its folder is named.
            whole = folder.meta and settings.vision is None
            vision = load_vision_tokenizer(folder.path if whole else folder.need("vision"), device=device)
        if policy is None:
            frozen, policy = True, _load_policy(folder.need("policy"), settings, device)
            if settings.engine == "vllm" and settings.dtype != "auto":
                engine_options = {"dtype": settings.dtype, **engine_options}
    engine = create_engine(settings, policy, tokenizer, **{"frozen": frozen, **engine_options})
    return EditPipeline(engine, vision, name=name)


def _load_policy(folder: Path, settings: ModelSettings, device: str) -> Any:
    """A policy in the form that its engine takes."""
    if settings.engine == "vllm":
        from earl.sampling.vllm.engine import import_vllm, servable

        import_vllm()  # where it is missing no weights need loading
        return servable(folder)
    on_cuda = device.startswith("cuda")
    if settings.device_map is not None:
        from earl.policy.devices import names_cuda

        on_cuda = names_cuda(settings.device_map)
    dtype = "bfloat16" if settings.dtype == "auto" and on_cuda else settings.dtype
    if settings.device_map is None and settings.quantize is None:
        from earl.policy import open_policy  # alone: the other two import transformers

        return open_policy(folder, dtype=dtype, device=device)
    from earl.policy import load_policy, quantise

    if settings.quantize is not None:  # from the CPU, so that matrices move to their device one by one
        return quantise(load_policy(folder, dtype=dtype), settings.quantize, device)
    return load_policy(folder, dtype=dtype, device_map=settings.device_map, max_memory=settings.max_memory)


def best_of(result: EditResult, verifier: Verifier) -> tuple[EditResult, Verdict]:
    """Keep the image that a verifier likes best; the first of equals.

    Raises:
        VerifierError: not one of the images could be judged.
    """
    verdicts = asyncio.run(verifier.judge(result.attempts()))
    best = best_index(result.images, verdicts)
    if verdicts[best].overall is None:
        first = verdicts[0]
        raise VerifierError(
            f"none of the {len(verdicts)} edits could be judged ({first.status}): {first.reason}"
        )
    return result.keep([best]), verdicts[best]


def best_index(images: Sequence[Image.Image | None], verdicts: Sequence[Verdict]) -> int:
    """Place of the highest overall score, the first of equals; without scores, of the first image, else 0."""

    def rank(place: int) -> float:
        overall = verdicts[place].overall
        return overall if overall is not None else (-2.0 if images[place] is None else -1.0)

    return max(range(len(images)), key=rank)


def pick_device(name: str) -> str:
    """ "auto" made definite. Raises ConfigError for CUDA where torch sees none."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r}: torch sees no CUDA device here; use 'cpu' or 'auto'")
    return name
