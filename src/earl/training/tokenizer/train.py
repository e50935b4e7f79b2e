"""Training of a vision tokenizer: a recipe to a model folder.

`earl.training.tokenizer.learning` has the training pass; this gives it images, the loop, and a wall of
reconstructions to look at. Check the tokenizer before any SFT (`earl evaluate tokenizer`): a policy
cannot draw what it cannot show.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from earl.config.sections import Precision
from earl.config.stages import TokenizerRecipe
from earl.training.loop import Losses, RunResult, Trainer
from earl.training.random_streams import derive_seed
from earl.training.ranks import autocast
from earl.training.run import Run, start_run
from earl.training.tokenizer.images import ImageBatch, ImageStream, load_images, to_pixels
from earl.training.tokenizer.learning import Reconstruction, TokenizerLearner
from earl.vision.creating import create_vision_tokenizer
from earl.vision.loading import load_vision_tokenizer, save_vision_tokenizer
from earl.vision.tokenizer import VisionTokenizer

_WALL = 12  # images shown


class TokenizerObjective(nn.Module):
    """The learner with its losses summed over images."""

    also_saved = ("learner.model.quantize.embedding.weight",)  # follows averages, has no gradient

    def __init__(self, learner: TokenizerLearner, precision: Precision) -> None:
        super().__init__()
        self.learner = learner
        self.precision = precision

    def reconstruct(self, batch: ImageBatch) -> Reconstruction:
        with autocast(self.precision, batch.pixels_BCHW.device):
            made: Reconstruction = self.learner(batch.pixels_BCHW, batch.weights_BHW)
        return made

    def forward(self, batch: ImageBatch) -> Losses:
        """Metrics: the parts of the loss, unweighted; psnr in dB."""
        made, count = self.reconstruct(batch), batch.active
        told = {"loss": made.loss.detach(), **made.parts}
        metrics = {
            name: torch.tensor([value.item() * count, count], dtype=torch.float64)
            for name, value in told.items()
        }
        return Losses(made.loss * count, metrics)


def train_tokenizer(recipe: TokenizerRecipe) -> RunResult:
    """Run or continue learning a vision tokenizer; leaves `run.folder/model`.

    Raises:
        EarlError: see `start_run`, `Trainer`, `load_images`.
    """
    with start_run(recipe, find_unused=True) as run:
        learner, start = _learner(recipe)
        objective = TokenizerObjective(learner, recipe.precision)
        settings = recipe.images
        cache = Path(settings.cache) if settings.cache else run.folder / "images.npy"
        held_cache, held = run.folder / "images-validation.npy", recipe.validation.sequences
        with run.accelerator.main_process_first():
            table = load_images(settings, cache, split="train", count=settings.count)
            held_back = load_images(settings, held_cache, split="validation", count=held)
        stream = ImageStream(
            table,
            settings,
            recipe.batch,
            edges=recipe.losses.edges,
            seed=derive_seed(recipe.run.seed, "images"),
            rank=run.rank,
        )

        def validate(step: int) -> dict[str, float]:
            values, wall = validate_tokenizer(objective, held_back, run)
            if wall is not None:
                trainer.log.image("reconstructions", step, wall)
            return values

        limits = [recipe.length.max_steps] if recipe.length.max_steps else []
        if recipe.length.max_epochs:
            steps = recipe.length.max_epochs * len(table) / recipe.batch.global_size
            limits.append(max(1, round(steps)))
        trainer = Trainer(run, objective, stream, total_steps=min(limits), validate=validate)
        result = trainer.train()
        with trainer.final_weights():
            if run.main:
                save_vision_tokenizer(_taught(learner, start, recipe), run.folder / "model")
        run.accelerator.wait_for_everyone()
    return result


def _learner(recipe: TokenizerRecipe) -> tuple[TokenizerLearner, VisionTokenizer | None]:
    """The learner, and the tokenizer that it begins from."""
    model, seed, start = recipe.model, recipe.run.seed, None
    if model.start is not None:
        start = load_vision_tokenizer(model.start, dtype="float32")
        start.codes_of = start.fingerprint()  # before its weights move
        parts = start.model
    else:
        parts = create_vision_tokenizer(derive_seed(seed, "weights"), **model.widths())
    codebook_seed = derive_seed(seed, "codebook") % 2**31
    learner = TokenizerLearner(parts, recipe.losses, keep_codes=model.keep_codes, seed=codebook_seed)
    if start is not None:
        learner.use_loaded_codebook()
    return learner, start


def _taught(
    learner: TokenizerLearner, start: VisionTokenizer | None, recipe: TokenizerRecipe
) -> VisionTokenizer:
    """What was learnt; where only the decoder was, its codes stay those of the start."""
    area = recipe.model.area or (start.area if start else 64 * 64)
    rule = start.rule if start else "snap"
    kept = start.codes_of if start and recipe.model.keep_codes else ""
    return VisionTokenizer(learner.model, area=area, rule=rule, codes_of=kept)


def validate_tokenizer(
    objective: TokenizerObjective, table: NDArray[np.uint8], run: Run
) -> tuple[dict[str, float], Image.Image | None]:
    """Loss, PSNR (dB, mean over batches), codes in use, and a wall: images above, reconstructions below.

    A rank that had no images, because there are fewer batches than ranks, has no wall.
    """
    sums = torch.zeros(3, dtype=torch.float64)
    used = torch.zeros(objective.learner.model.config.codebook_size, dtype=torch.float64)
    wall: list[Tensor] = []
    size, (rank, ranks) = run.recipe.batch.micro_size, run.rank
    for start in range(0, len(table), size)[rank::ranks]:
        batch = ImageBatch(to_pixels(table[start : start + size]), None).to(run.device)
        made = objective.reconstruct(batch)
        sums += torch.tensor([float(made.loss), float(made.parts["psnr"]), 1.0]) * batch.active
        used += torch.bincount(made.codes_BHW.flatten().cpu(), minlength=len(used)).double()
        if sum(map(len, wall)) < 2 * _WALL:
            wall.append(torch.stack([batch.pixels_BCHW, made.recon_BCHW], dim=1).cpu())
    found = run.accelerator.reduce(torch.cat([sums, used]).to(run.device), "sum").cpu()
    count, shares = found[2], found[3:] / found[3:].sum()
    perplexity = torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum())
    values = {
        "loss": float(found[0] / count),
        "psnr": float(found[1] / count),
        "codes_alive": float((found[3:] > 0).sum()),
        "codes_perplexity": float(perplexity),
    }
    return values, _wall(torch.cat(wall)[:_WALL]) if wall else None


def _wall(pairs_B2CHW: Tensor) -> Image.Image:
    rows = [torch.cat(list(pairs_B2CHW[:, row]), dim=2) for row in (0, 1)]
    pixels = (torch.cat(rows, dim=1).clamp(-1, 1) * 127.5 + 127.5).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())
