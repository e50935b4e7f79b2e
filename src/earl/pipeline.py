"""Image and instruction in, edited image out: vision → sequence → generation → sequence → vision.

The images come out at the size the model works at (its area in px², the source's aspect,
sides multiples of 8). Each sample draws from its own stream, whatever else is in the
batch; rounding (bfloat16 above all) can still tip a near tie between two codes.

Axis letters: H W latent rows and columns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from earl.errors import ConfigError, InstructionError, ModelFormatError, SequenceError, VerifierError
from earl.models.resolve import resolve_model
from earl.records import Attempt, Completion, Grid, Verdict
from earl.sequence import AWAY, Prefill, TextTokenizer, check_instruction, parse_completion, write_prompt

if TYPE_CHECKING:
    from earl.policy.devices import DeviceMap, MaxMemory
    from earl.sampling import Engine
    from earl.vision import ImageSource, VisionTokenizer

MAX_REASONING_TOKENS = 1_024


class Verifier(Protocol):
    """What picks the best of several edits; see `earl.verifiers`."""

    async def judge(self, attempts: Sequence[Attempt]) -> list[Verdict]: ...


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
        """The first picture. Raises SequenceError where the model wrote none."""
        return self.require_image()

    def require_image(self) -> Image.Image:
        """The first image there is. Raises SequenceError with the problem where there is none."""
        for image in self.images:
            if image is not None:
                return image
        raise SequenceError(f"the model wrote no image ({self.problems[0]}); try another seed")

    def only(self, index: int) -> EditResult:
        """The result with one of its pictures."""
        keep = slice(index, index + 1)
        return replace(
            self,
            images=self.images[keep],
            completions=self.completions[keep],
            seeds=self.seeds[keep],
            problems=self.problems[keep],
            reasoning=self.reasoning[keep],
        )

    def attempts(self, target: Image.Image | None = None, key: str = "") -> list[Attempt]:
        """The edits as a verifier takes them."""
        return [
            Attempt(self.source, self.instruction, image, target, completion.finish_reason, key)
            for image, completion in zip(self.images, self.completions, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class _Job:
    """One image on its way through: resized, encoded, written as a prompt."""

    source: Image.Image
    size: tuple[int, int]  # px, of the image that was given
    instruction: str
    prompt: tuple[int, ...]
    away: tuple[int, ...] | None
    codes: tuple[int, ...]
    grid: Grid
    seeds: tuple[int, ...]


class EditPipeline:
    """Edits images with one policy, one text tokenizer and one vision tokenizer.

    Args:
        engine: samples completions; holds the policy and the text tokenizer.
        vision: turns pixels into codes and back.
        tokenizer: writes and reads ids; the engine's own.
        name: what to call the model in reports.

    Raises:
        ModelFormatError: the parts have codebooks or vocabularies of different sizes.
    """

    def __init__(
        self, engine: Engine, vision: VisionTokenizer, tokenizer: TextTokenizer, *, name: str = "model"
    ) -> None:
        self.engine = engine
        self.vision = vision
        self.tokenizer = tokenizer
        self.name = name
        self.max_length = int(engine.policy.config.max_position_embeddings)
        _check_fit(engine.policy.config, vision, tokenizer, name)

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path = "world",
        *,
        device: str = "auto",
        dtype: str = "auto",
        tokenizer: str | Path | None = None,
        vision: str | Path | None = None,
        revision: str | None = None,
        quantize: str | None = None,
        device_map: DeviceMap | None = None,
        max_memory: MaxMemory | None = None,
        **engine_options: Any,
    ) -> EditPipeline:
        """Load the parts of a model.

        The engine's policy then mostly holds weights alone (`earl.policy.open_policy`); the transformers
        model, with a forward pass, is what `earl.load_policy` gives.

        Args:
            name_or_folder: "world" (shipped), a folder, a LoRA adapter's folder, or a hub id.
            device: "auto" (CUDA where there is one), "cpu", "cuda", "cuda:1", …
            dtype: of the policy: "auto" (bfloat16 on CUDA, else as stored), "float32", "bfloat16",
                "float16". The vision tokenizer computes in float32, where alone its codes are exact.
            tokenizer: another model to take the text tokenizer from.
            vision: another model to take the vision tokenizer from.
            revision: branch, tag or commit of a hub id.
            quantize: "int8" or "int4" (CUDA): the policy's matrices, by `earl.policy.quantise`.
            device_map, max_memory: the policy over several devices, as in `earl.policy.load_policy`; "auto"
                shares it out over the CUDA devices. `device` is then for the vision tokenizer alone.
            engine_options: for `earl.sampling.Engine`, such as `max_batch`. Its weights are read once: to
                edit with a policy that is being trained, make the pipeline of an engine of your own.

        Raises:
            ModelNotFoundError, ModelFormatError, TokenizerError: a part is missing or damaged.
            ConfigError: CUDA is asked for and not there; a device map that cannot be, or with `quantize`.
        """
        if device_map is not None and quantize:
            raise ConfigError("quantize works on one device: leave out quantize or device_map")
        from earl.policy import open_policy
        from earl.policy.devices import names_cuda
        from earl.sampling import Engine
        from earl.vision import load_vision_tokenizer

        place = pick_device(device)
        folder = resolve_model(name_or_folder, revision, tokenizer=tokenizer, vision=vision)
        words = TextTokenizer.from_folder(folder.need("tokenizer"))
        # An area in earl.json belongs to the whole model, so the whole folder is named where it has one.
        eyes_folder = folder.path if folder.meta and vision is None else folder.need("vision")
        eyes = load_vision_tokenizer(eyes_folder, device=place)
        on_cuda = place.startswith("cuda") if device_map is None else names_cuda(device_map)
        kind = "bfloat16" if dtype == "auto" and on_cuda else dtype
        where = folder.need("policy")
        policy: Any
        if device_map is not None or max_memory is not None:
            from earl.policy import load_policy

            policy = load_policy(where, dtype=kind, device_map=device_map, max_memory=max_memory)
        elif quantize:
            from earl.policy import load_policy, quantise

            # from the CPU, so that matrices move to their place one by one
            policy = quantise(load_policy(where, dtype=kind), quantize, place)  # type: ignore[arg-type]
        else:
            policy = open_policy(where, dtype=kind, device=place)
        engine = Engine(policy, words, **{"frozen": True, **engine_options})
        return cls(engine, eyes, words, name=str(name_or_folder))

    def __call__(
        self,
        image: ImageSource,
        instruction: str,
        *,
        seed: int = 0,
        **options: Any,
    ) -> EditResult:
        """Edit one picture.

        Args:
            image: a PIL image, a path, or the bytes of an image file.
            instruction: what to change, 1 to 2,000 characters.
            seed: image i is drawn with seed + i; the same seed gives the same picture.
            options: keywords of `edit_many`: `num_images`, `temperature`, `top_k`, `top_p`, `greedy`,
                `guidance`, `away`, `area`, `reasoning`, `restore_size`, `on_row`.

        Raises:
            ImageError: no image, or one of an aspect that cannot be edited.
            InstructionError: empty, or too long for the model.
            ConfigError: sampling settings out of range.
        """
        return self.edit_many([(image, instruction)], seeds=[seed], **options)[0]

    def edit_many(
        self,
        pairs: Sequence[tuple[ImageSource, str]],
        *,
        seeds: int | Sequence[int] = 0,
        num_images: int = 1,
        temperature: float = 1.0,
        top_k: int = 2048,
        top_p: float = 1.0,
        greedy: bool = False,
        guidance: float = 1.0,
        away: str = AWAY,
        area: int | None = None,
        reasoning: bool = False,
        restore_size: bool = False,
        on_row: Callable[..., None] | None = None,
    ) -> list[EditResult]:
        """Edit several images together, of any sizes.

        Args:
            pairs: (image, instruction) of each edit, each as in `__call__`.
            seeds: one for all, or one per pair.
            num_images: how many to draw of each, >= 1.
            temperature, top_k, top_p, greedy, guidance: see `earl.sampling.Sampling`.
            away: the instruction that guidance above 1 leads away from, asked of the same image; it
                doubles the work of sampling.
            area: px² to work at; the model's own when None.
            reasoning: let the model write a chain of thought first.
            restore_size: scale the results to the size of their sources.
            on_row: called by the engine as rows of image codes are done.

        Returns:
            Results in the order of `pairs`.

        Raises:
            ImageError, InstructionError, ConfigError: as `__call__`; also as many seeds as edits are needed.
        """
        from earl.sampling import Request, Sampling

        began = time.perf_counter()
        firsts = [seeds] * len(pairs) if isinstance(seeds, int) else list(seeds)
        if len(firsts) != len(pairs):
            raise ConfigError(f"{len(firsts)} seeds for {len(pairs)} edits; give one for all or one for each")
        if num_images < 1:
            raise ConfigError(f"num_images must be at least 1, got {num_images}")
        if not pairs:
            return []
        prefill: Prefill = "reasoning" if reasoning else "size"
        sampling = Sampling(temperature, top_k, top_p, greedy, guidance)
        unwanted = check_instruction(away, "the instruction to lead away from") if sampling.guided else None
        draws = [tuple(range(s, s + num_images)) for s in firsts]
        jobs = self._prepare(pairs, draws, area, prefill, unwanted)
        requests = [
            Request(
                prompt=job.prompt,
                seeds=job.seeds,
                grid=job.grid,
                prefill=prefill,
                max_text_tokens=MAX_REASONING_TOKENS,
                away=job.away,
                draft=job.codes,
            )
            for job in jobs
        ]
        completions = self.engine.generate(requests, sampling, on_row=on_row)
        results = self._read(jobs, completions, restore_size)
        seconds = time.perf_counter() - began
        return [replace(result, seconds=seconds) for result in results]

    def _prepare(
        self,
        pairs: Sequence[tuple[ImageSource, str]],
        seeds: Sequence[tuple[int, ...]],
        area: int | None,
        prefill: Prefill,
        away: str | None,
    ) -> list[_Job]:
        from earl.vision import open_image, resize_to, target_size

        instructions = [check_instruction(instruction) for _, instruction in pairs]
        given = [open_image(image) for image, _ in pairs]
        sizes = [target_size(*image.size, area or self.vision.area) for image in given]
        sources = [resize_to(image, size) for image, size in zip(given, sizes, strict=True)]
        jobs = []
        codes = self.vision.encode(sources, resize=False)
        for i, codes_HW in enumerate(codes):
            prompt = tuple(write_prompt(codes_HW, instructions[i], self.tokenizer))
            twin = tuple(write_prompt(codes_HW, away, self.tokenizer)) if away else None
            grid = Grid(*map(int, codes_HW.shape))
            self._check_length(max(prompt, twin or (), key=len), grid, prefill)
            cells = tuple(codes_HW.ravel().tolist())
            jobs.append(_Job(sources[i], given[i].size, instructions[i], prompt, twin, cells, grid, seeds[i]))
        return jobs

    def _check_length(self, prompt: Sequence[int], grid: Grid, prefill: Prefill) -> None:
        longest = len(prompt) + grid.height * (grid.width + 1) + 24  # size, structure, EOS
        longest += MAX_REASONING_TOKENS if prefill == "reasoning" else 0
        if longest > self.max_length:
            raise InstructionError(
                f"source, instruction and edited image need {longest} tokens, {self.name} takes "
                f"{self.max_length}; shorten the instruction or give a smaller area"
            )

    def _read(
        self, jobs: Sequence[_Job], completions: Sequence[Sequence[Completion]], restore_size: bool
    ) -> list[EditResult]:
        parsed = [[parse_completion(c.ids, self.tokenizer) for c in group] for group in completions]
        whole: list[np.ndarray] = [p.codes for group in parsed for p in group if p.codes is not None]
        pictures = iter(self.vision.decode(whole) if whole else [])
        results = []
        for job, group, readings in zip(jobs, completions, parsed, strict=True):
            images = [next(pictures) if reading.codes is not None else None for reading in readings]
            if restore_size:
                images = [
                    image and image.resize(job.size, Image.Resampling.LANCZOS)  # nothing where there is none
                    for image in images
                ]
            results.append(
                EditResult(
                    images=tuple(images),
                    completions=tuple(group),
                    seeds=job.seeds,
                    source=job.source,
                    instruction=job.instruction,
                    seconds=0.0,
                    problems=tuple(reading.problem for reading in readings),
                    reasoning=tuple(reading.reasoning for reading in readings),
                )
            )
        return results


def best_of(result: EditResult, verifier: Verifier) -> tuple[EditResult, Verdict]:
    """Keep the image that a verifier likes best; the first of equals.

    Raises:
        VerifierError: not one of the images could be judged.
    """
    verdicts = asyncio.run(verifier.judge(result.attempts()))
    scores = [-1.0 if v.overall is None else v.overall for v in verdicts]
    best = int(np.argmax(scores))
    if scores[best] < 0:
        first = verdicts[0]
        raise VerifierError(
            f"none of the {len(verdicts)} edits could be judged ({first.status}): {first.reason}"
        )
    return result.only(best), verdicts[best]


def pick_device(name: str) -> str:
    """ "auto" made definite. Raises ConfigError for CUDA where torch sees none."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r}: torch sees no CUDA device here; use 'cpu' or 'auto'")
    return name


def _check_fit(config: Any, vision: VisionTokenizer, tokenizer: TextTokenizer, name: str) -> None:
    vocabulary = tokenizer.vocabulary
    if vision.codebook_size != vocabulary.codebook_size:
        raise ModelFormatError(
            f"{name}: the vision tokenizer has {vision.codebook_size} codes, the text tokenizer "
            f"{vocabulary.codebook_size} visual tokens; they do not belong together"
        )
    if config.vocab_size < vocabulary.size:
        raise ModelFormatError(
            f"{name}: the policy has {config.vocab_size} ids, the text tokenizer {vocabulary.size}; "
            "they do not belong together"
        )
