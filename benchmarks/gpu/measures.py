"""What is measured. Each function returns rows: a name, a value, a unit, and what the number is of."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmarks.gpu.models import TEXTS, Models

from earl.config import EngineSettings, SamplingSettings
from earl.config.grpo import LossSettings
from earl.config.stages import load_stage
from earl.data.collate import collate
from earl.data.examples import Example
from earl.pipeline import build_pipeline
from earl.policy.adapters import add_lora
from earl.policy.likelihood import recompute_activations
from earl.records import Attempt, Grid, Verdict
from earl.sampling import Request
from earl.sampling.native.engine import NativeEngine
from earl.sequence.kinds import completion_kinds
from earl.sequence.layout import write_completion, write_prompt
from earl.training.grpo.batches import make_batch
from earl.training.grpo.judging import Judge
from earl.training.grpo.logprobs import GrpoObjective
from earl.training.grpo.prompts import Prompt
from earl.training.grpo.rollouts import Sampler
from earl.training.grpo.trainer import advantages_of
from earl.training.optimisers import create_optimisers
from earl.training.reference import Reference
from earl.training.sft.objective import SftObjective

RECIPES = Path(__file__).parents[2] / "recipes" / "emu3"


@dataclass(frozen=True)
class Row:
    name: str
    value: float
    unit: str
    detail: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Clock:
    """Wall seconds with the device's work done, and the most memory that it held."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, run: Callable[[], object]) -> float:
        began = self.now()
        run()
        return self.now() - began

    @contextmanager
    def memory(self) -> Iterator[list[Row]]:
        """Leaves one row with the peak in GiB; none on a CPU, where torch does not count."""
        rows: list[Row] = []
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        yield rows
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device) / 2**30
            rows.append(Row("peak memory", peak, "GiB", "allocated by torch"))


def measure_edits(models: Models) -> list[Row]:
    """Edits end to end: encode, sample, decode, all together."""
    scale, clock = models.scale, Clock(models.device)
    pipeline = build_pipeline(
        EngineSettings(max_batch=64), policy=models.policy, tokenizer=models.tokenizer, vision=models.vision
    )
    pairs = [(image, TEXTS[0]) for image in models.images(scale.edits)]
    pipeline.edit_many(pairs[:1])  # kernels and graphs are made once
    results: list[Any] = []
    with clock.memory() as rows:
        took = clock.seconds(lambda: results.extend(pipeline.edit_many(pairs)))
    assert all(result.images[0] is not None for result in results), "the grammar makes every edit an image"
    what = f"{scale.edits} edits at {scale.side} x {scale.side}, end to end"
    return [Row("edits", took, "s", what), Row("per edit", took / scale.edits, "s", what), *rows]


def measure_sampling(models: Models) -> list[Row]:
    """Visual tokens and structure a second, by how many completions run at once."""
    clock, height, width = Clock(models.device), *models.grid
    rng = np.random.default_rng(0)
    rows = []
    for batch in models.scale.batches:
        engine = NativeEngine(models.policy, models.tokenizer, max_batch=batch)
        codes = rng.integers(0, models.scale.codebook, (batch, height, width))
        prompts = [tuple(write_prompt(each, TEXTS[1], models.tokenizer)) for each in codes]
        requests = [Request(prompt, (seed,), Grid(height, width)) for seed, prompt in enumerate(prompts)]
        engine.generate(requests[:1], SamplingSettings())
        done: list[Any] = []
        took = clock.seconds(lambda e=engine, r=requests, d=done: d.extend(e.generate(r, SamplingSettings())))
        tokens = sum(len(group[0].ids) for group in done)
        what = f"{tokens} tokens after prompts of {len(prompts[0])}"
        rows.append(Row(f"batch {batch}", tokens / took, "tokens/s", what))
    return rows


class Drawn:
    """A verifier that costs nothing: scores drawn from a seed."""

    async def judge(self, attempts: list[Attempt]) -> list[Verdict]:
        rng = np.random.default_rng(len(attempts))
        return [Verdict("ok", *rng.uniform(0, 10, 4).tolist()) for _ in attempts]


def measure_grpo(models: Models) -> list[Row]:
    """One whole step of recipes/emu3/one-gpu.toml without a judge: sample, decode, score, update."""
    scale, clock, (height, width) = models.scale, Clock(models.device), models.grid
    recipe: Any = load_stage(RECIPES / "one-gpu.toml")
    images = models.images(scale.prompts)
    prompts = [
        Prompt(n, str(n), images[n], None, TEXTS[1], "", "simple", ids, Grid(height, width))
        for n, codes in enumerate(models.vision.encode(images, resize=False))
        for ids in [tuple(write_prompt(codes, TEXTS[1], models.tokenizer))]
    ]
    policy = add_lora(models.policy, recipe.lora.rank if scale.policy == "8b" else 4)
    recompute_activations(policy)
    policy.get_base_model().enable_input_require_grads()
    objective = GrpoObjective(
        policy, models.tokenizer.vocabulary, recipe.precision, settings=LossSettings(), sharing="mask"
    )
    (optimiser,) = create_optimisers(objective.named_parameters(), recipe.optimiser)
    reference, judge = Reference(policy), Judge()
    rollouts = scale.prompts * scale.group
    settings = recipe.rollouts.replace(group=scale.group, prefill="size", max_batch=rollouts)
    pipeline = build_pipeline(settings, policy=policy, tokenizer=models.tokenizer, vision=models.vision)
    sampler = Sampler(
        pipeline.engine, models.vision, Drawn(), judge, recipe.model_copy(update={"rollouts": settings})
    )
    parts = dict.fromkeys(("sampling", "decoding", "reference", "update"), 0.0)

    def step() -> None:
        objective.eval()
        groups = sampler.collect(prompts)
        parts["sampling"], parts["decoding"] = sampler.seconds["sampling"], sampler.seconds["decoding"]
        began = clock.now()
        batches = [
            make_batch(
                [group],
                advantages_of([group], divide_by_std=True, eps=1e-4),
                pad=models.tokenizer.vocabulary.pad,
            ).to(models.device)
            for group in groups
        ]
        scores = reference.score(objective, batches)
        scored = clock.now()
        objective.train()
        active = sum(batch.active for batch in batches)
        for batch, found in zip(batches, scores, strict=True):
            (objective(type(batch)(**{**vars(batch), "reference_BT": found})).total / active).backward()
        optimiser.step()
        optimiser.zero_grad()
        parts["reference"], parts["update"] = scored - began, clock.now() - scored

    try:
        step()  # kernels and graphs are made once
        with clock.memory() as rows:
            took = clock.seconds(step)
    finally:
        judge.close()
        policy.unload()
    what = f"{scale.prompts} x {scale.group} rollouts, LoRA, no judge"
    return [Row("step", took, "s", what), *(Row(name, value, "s") for name, value in parts.items()), *rows]


def measure_sft(models: Models) -> list[Row]:
    """One step of recipes/emu3/one-gpu-sft.toml: forward, backward, update."""
    scale, clock, (height, width) = models.scale, Clock(models.device), models.grid
    recipe: Any = load_stage(RECIPES / "one-gpu-sft.toml")
    rng = np.random.default_rng(1)

    def example() -> Example:
        source, target = rng.integers(0, scale.codebook, (2, height, width))
        prompt = write_prompt(source, TEXTS[1], models.tokenizer)
        completion = write_completion(target, models.tokenizer)
        kinds = completion_kinds(completion, models.tokenizer, "size")
        ids = np.array([*prompt, *completion], np.int32)
        kinds = np.concatenate([np.zeros(len(prompt), np.int8), kinds])
        return Example(ids, kinds, np.zeros(len(ids), bool))

    policy = add_lora(models.policy, recipe.lora.rank if scale.policy == "8b" else 4)
    recompute_activations(policy)
    policy.get_base_model().enable_input_require_grads()
    objective = SftObjective(policy, models.tokenizer.vocabulary, recipe.precision).train()
    (optimiser,) = create_optimisers(objective.named_parameters(), recipe.optimiser)
    pad = models.tokenizer.vocabulary.pad
    batches = [
        collate([[example()] for _ in range(scale.micro)], pad).to(models.device)
        for _ in range(scale.sequences // scale.micro)
    ]

    def step() -> None:
        active = sum(batch.active for batch in batches)
        for batch in batches:
            (objective(batch).total / active).backward()
        optimiser.step()
        optimiser.zero_grad()

    objective(batches[0]).total.backward()
    optimiser.zero_grad()
    try:
        with clock.memory() as rows:
            took = clock.seconds(step)
    finally:
        policy.unload()
    tokens = sum(int(batch.mask_BT.sum()) for batch in batches)
    what = f"{scale.sequences} sequences of {tokens // scale.sequences}, LoRA"
    return [Row("step", took, "s", what), Row("rate", tokens / took, "tokens/s", what), *rows]


@torch.inference_mode()
def measure_vision(models: Models) -> list[Row]:
    """Images a second, ours beside the stock class, on the same weights; equal codes are asserted."""
    clock, vision, side = Clock(models.device), models.vision, models.scale.side
    rows = []
    for batch in sorted({1, models.scale.images}):
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(batch, 3, 8, 8, generator=generator) * 2 - 1
        pixels = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(-1, 1)
        pixels, sizes = pixels.to(models.device), [(side, side)] * batch

        def stock_encode(pixels=pixels, sizes=sizes):
            return torch.stack(list(vision.model.encode(pixels, image_sizes=sizes).image_tokens))

        codes = vision.encode_pixels(pixels)
        same = (stock_encode().view_as(codes) == codes).float().mean().item()
        for name, stock, ours in (
            ("encode", stock_encode, lambda p=pixels: vision.encode_pixels(p)),
            ("decode", lambda c=codes: vision.model.decode(c), lambda c=codes: vision.decode_codes(c)),
        ):
            for whose, run in (("stock class", stock), ("ours", ours)):
                run()
                rate = batch / clock.seconds(run)
                rows.append(Row(f"{name}, batch {batch}, {whose}", rate, "images/s", f"{side} px, float32"))
        rows.append(Row(f"equal codes, batch {batch}", same, "share"))
    return rows


MEASURES: dict[str, Callable[[Models], list[Row]]] = {
    "edits": measure_edits,
    "sampling": measure_sampling,
    "grpo": measure_grpo,
    "sft": measure_sft,
    "vision": measure_vision,
}
