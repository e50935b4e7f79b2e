"""Learning a vision tokenizer: images in, reconstructions out, a codebook between.

The model's own training pass is `earl.training.tokenizer.learning`; this gives it images, the loop, a wall
of reconstructions to look at, and a folder in the end. Gate it before any SFT: what the
tokenizer cannot show, no policy can draw.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from earl.config.sections import Precision
from earl.config.stages import TokenizerRecipe
from earl.errors import ConfigError
from earl.training.loop import Losses, Report, Trainer
from earl.training.ranks import autocast, create_accelerator
from earl.training.streams import RandomStreams, derive_seed
from earl.training.tokenizer.images import ImageBatch, ImageStream, load_images, to_pixels
from earl.training.tokenizer.learning import LearnerSettings, Reconstruction, TokenizerLearner
from earl.vision import create_vision_tokenizer, load_vision_tokenizer, save_vision_tokenizer

_WALL = 12  # images shown


class TokenizerObjective(nn.Module):
    """The learner with its losses summed over pictures."""

    also_saved = ("learner.model.quantize.embedding.weight",)  # follows averages, has no gradient

    def __init__(self, learner: TokenizerLearner, precision: Precision) -> None:
        super().__init__()
        self.learner = learner
        self.precision = precision

    def reconstruct(self, batch: ImageBatch) -> Reconstruction:
        with autocast(self.precision, batch.pixels_BCHW.device):
            return self.learner(batch.pixels_BCHW, batch.weights_BHW)

    def forward(self, batch: ImageBatch) -> Losses:
        """Metrics: the parts of the loss, unweighted; psnr in dB."""
        parts, count = self.reconstruct(batch).loss, batch.active
        metrics = {
            name: torch.tensor([getattr(parts, name).item() * count, count], dtype=torch.float64)
            for name in ("total", "l1", "l2", "gradient", "color", "commitment", "psnr")
        }
        metrics["loss"] = metrics.pop("total")
        return Losses(parts.total * count, metrics)


def train_tokenizer(recipe: TokenizerRecipe) -> Report:
    """Run or continue learning a vision tokenizer; leaves `run.folder/model`.

    Raises:
        EarlError: see `Trainer`, `load_images`.
    """
    accelerator = create_accelerator(recipe.run, find_unused=True)
    if recipe.batch.sequences % (recipe.batch.micro * accelerator.num_processes):
        raise ConfigError(
            f"batch.sequences = {recipe.batch.sequences} does not divide into batch.micro = "
            f"{recipe.batch.micro} on {accelerator.num_processes} ranks"
        )
    streams = RandomStreams(recipe.run.seed, rank=accelerator.process_index)
    folder = Path(recipe.run.folder)
    learner = _learner(recipe)
    objective = TokenizerObjective(learner, recipe.precision)
    cache = Path(recipe.images.cache) if recipe.images.cache else folder / "images.npy"
    with accelerator.main_process_first():
        pictures = load_images(recipe.images, cache, split="train", count=recipe.images.count)
        held_back = load_images(
            recipe.images,
            folder / "images-validation.npy",
            split="validation",
            count=recipe.validation.samples,
        )
    stream = ImageStream(
        pictures,
        recipe.images,
        edges=recipe.losses.edges,
        sequences=recipe.batch.sequences,
        micro=recipe.batch.micro,
        seed=derive_seed(recipe.run.seed, "images"),
        rank=accelerator.process_index,
        ranks=accelerator.num_processes,
    )

    def validate(step: int) -> dict[str, float]:
        values, wall = validate_tokenizer(objective, held_back, accelerator, micro=recipe.batch.micro)
        if wall is not None:
            trainer.log.picture("reconstructions", step, wall)
        return values

    steps = [recipe.length.steps] if recipe.length.steps else []
    if recipe.length.epochs:
        steps.append(max(1, round(recipe.length.epochs * len(pictures) / recipe.batch.sequences)))
    trainer = Trainer(
        recipe,
        objective,
        stream,
        accelerator=accelerator,
        streams=streams,
        total_steps=min(steps),
        validate=validate,
    )
    report = trainer.run()
    with trainer.final_weights():
        if accelerator.is_main_process:
            save_vision_tokenizer(learner.model, folder / "model", area=recipe.model.area)
    accelerator.wait_for_everyone()
    return report


def _learner(recipe: TokenizerRecipe) -> TokenizerLearner:
    settings = LearnerSettings(
        l1=recipe.losses.l1,
        l2=recipe.losses.l2,
        gradient=recipe.losses.gradient,
        color=recipe.losses.color,
        commitment=recipe.losses.commitment,
        warmup_steps=0 if recipe.model.start else recipe.losses.warmup_steps,
        ema_decay=recipe.losses.codebook_decay,
        seed=derive_seed(recipe.run.seed, "codebook") % 2**31,
        keep_codes=recipe.model.keep_codes,
    )
    if recipe.model.start is not None:
        loaded = load_vision_tokenizer(recipe.model.start, dtype="float32").model
        learner = TokenizerLearner(loaded, settings, compile=recipe.run.compile)
        learner.use_loaded_codebook()
        return learner
    model = create_vision_tokenizer(
        seed=derive_seed(recipe.run.seed, "weights"),
        base_channels=recipe.model.base_channels,
        channel_multiplier=recipe.model.channel_multiplier,
        num_res_blocks=recipe.model.residual_blocks,
        codebook_size=recipe.model.codebook_size,
        embed_dim=recipe.model.code_dimensions,
    )
    return TokenizerLearner(model, settings, compile=recipe.run.compile)


def validate_tokenizer(
    objective: TokenizerObjective, pictures: np.ndarray, accelerator: Accelerator, *, micro: int
) -> tuple[dict[str, float], Image.Image | None]:
    """Loss, PSNR (dB, mean over batches), codes in use, and a wall: images above, reconstructions below.

    A rank that had no images, because there are fewer batches than ranks, has no wall.
    """
    sums = torch.zeros(3, dtype=torch.float64)
    used = torch.zeros(objective.learner.model.config.codebook_size, dtype=torch.float64)
    wall: list[Tensor] = []
    starts = range(0, len(pictures), micro)
    for number, start in enumerate(starts):
        if number % accelerator.num_processes != accelerator.process_index:
            continue
        batch = ImageBatch(to_pixels(pictures[start : start + micro]), None).to(accelerator.device)
        made = objective.reconstruct(batch)
        sums += torch.tensor([float(made.loss.total), float(made.loss.psnr), 1.0]) * batch.active
        used += torch.bincount(made.codes_BHW.flatten().cpu(), minlength=len(used)).double()
        if sum(map(len, wall)) < 2 * _WALL:
            wall.append(torch.stack([batch.pixels_BCHW, made.recon_BCHW], dim=1).cpu())
    table = accelerator.reduce(torch.cat([sums, used]).to(accelerator.device), "sum").cpu()
    count, shares = table[2], table[3:] / table[3:].sum()
    perplexity = torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum())
    values = {
        "loss": float(table[0] / count),
        "psnr": float(table[1] / count),
        "codes_alive": float((table[3:] > 0).sum()),
        "codes_perplexity": float(perplexity),
    }
    return values, _wall(torch.cat(wall)[:_WALL]) if wall else None


def _wall(pairs_B2CHW: Tensor) -> Image.Image:
    rows = [torch.cat(list(pairs_B2CHW[:, row]), dim=2) for row in (0, 1)]
    pixels = (torch.cat(rows, dim=1).clamp(-1, 1) * 127.5 + 127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
