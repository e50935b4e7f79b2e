"""Teaches a policy to do in people's words what it does in plain ones: context distillation.

    python recipes/world/teach_words.py START OUT SHARDS... [--minutes 60]

The teacher is START itself, frozen, reading each edit's plain instruction. The student begins as START and
reads the same edit in words drawn anew. Its loss at each code of the target is the Kullback-Leibler
divergence from the teacher's distribution, mixed with the usual loss on the target: an edit that the teacher
does well is kept as it does it, sharpness from reinforcement learning included, and what it does badly is
still learnt. Sentences that ask for nothing have no teacher; their target is the source.

With `--plans` that share of edits has a plan before the image (shards made with `--reasoning plan`).
Exercises (`practice.py`) take the place of a share of updates (`--alone`: plans and lists without images)
and of a share of the images (`--drawings`). Behind a plan that names places the target alone is taught.

The learning rate falls along a cosine over the given time, so that a run on a busy machine ends where it
should. The averaged weights are saved to OUT every few minutes, and START may be such a folder.

Source: context distillation, Askell et al. 2021 (arXiv 2112.00861).

Axes: B sequences, T tokens, N codes of all targets, V codes of the codebook, n neighbours.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from practice import COMPOSED, Exercises
from torch import Tensor

from earl.config.sections import Ema, SmoothingSettings
from earl.config.stages import SftRecipe, load_stage
from earl.data.collate import Batch, collate
from earl.data.examples import Example, edit_example
from earl.data.shards import Edit, EditShards, load_shards
from earl.pipeline import pick_device
from earl.policy.likelihood import NeighbourSmoothing
from earl.policy.shared import shared_hidden_states
from earl.sequence.kinds import Kind
from earl.sequence.tokenizer import TextTokenizer
from earl.training.ema import WeightAverage
from earl.training.neighbour_smoothing import smooth_gradients
from earl.training.optimisers import create_optimisers, set_rates
from earl.training.parts import assemble_policy, save_model
from earl.vision.loading import load_vision_tokenizer
from earl.world.language.drawing import draw_wording

TRUST = {"simple": 0.75, "complex": 0.6, "other": 0.0}
"""Share of the teacher's distribution in what is taught, by group of edits; the rest is the target's."""
GLOBAL = ("background", "style")
"""Families whose plans say no more than the instruction does."""
WRITTEN = 2.0  # weight of an id of the plan beside a code
UNKNOWN = ("between", "double", "gather", "move", "stack", "swap")
"""Families that the teacher does not know (none to one in ten of them exact): the target alone is taught."""
SHARE = 4  # edits of one source image that are computed together
WARMUP = 50
Bundle = list[tuple[Edit, Edit]]
"""Edits of one source: in words drawn anew, and in plain ones."""


@dataclass(frozen=True)
class Losses:
    """Nats a code: what is optimised; the target's loss in changed cells and in kept ones; the divergence;
    and nats an id of the plan."""

    total: Tensor
    changed: float
    kept: float
    divergence: float
    written: float


class Bundles:
    """Draws bundles of edits from folders of shards, each by its weight, rows in shuffled order."""

    def __init__(self, folders: list[str], rng: np.random.Generator, plans: float = 0.0) -> None:
        self.rng = rng
        self.sources: list[EditShards] = []
        self.rows: list[list[list[int]]] = []
        weights = []
        for folder in folders:
            path, _, weight = folder.partition("=")
            shards = load_shards(path)
            self.sources.append(shards)
            self.rows.append(shards.bundles(SHARE))
            weights.append(len(shards) * float(weight or 1))
        self.shares = np.array(weights) / sum(weights)
        self.plans = plans
        self.orders: list[Iterator[int]] = [iter(()) for _ in folders]

    def draw(self) -> Bundle:
        number = int(self.rng.choice(len(self.sources), p=self.shares))
        row = next(self.orders[number], None)
        if row is None:
            self.orders[number] = iter(self.rng.permutation(len(self.rows[number])).tolist())
            row = next(self.orders[number])
        edits = [self.sources[number][index] for index in self.rows[number][row]]
        if self.rng.random() >= self.plans:
            edits = [replace(edit, reasoning="") for edit in edits]
        return [(replace(edit, instruction=draw_wording(edit.request, self.rng)), edit) for edit in edits]

    def pool(self, bundles: int, updates: int, tokenizer: TextTokenizer) -> Iterator[list[Bundle]]:
        """Updates of about equal lengths, in random order."""
        drawn = [self.draw() for _ in range(bundles * updates)]
        drawn.sort(key=lambda bundle: max(len(tokenizer.encode(new.instruction)) for new, _ in bundle))
        for update in self.rng.permutation(updates):
            yield drawn[update * bundles : (update + 1) * bundles]


class Lesson:
    """Student, teacher and the loss between them."""

    def __init__(
        self, start: str, teacher: str, recipe: SftRecipe, device: torch.device, *, plans: bool
    ) -> None:
        self.device = device
        self.parts = assemble_policy(recipe.model_copy(update={"model": _from(recipe, start)}), device)
        self.parts = replace(self.parts, reasons=self.parts.reasons or plans)
        self.student = self.parts.policy
        taught = assemble_policy(recipe.model_copy(update={"model": _from(recipe, teacher)}), device)
        self.teacher, self.teacher_tokenizer = taught.policy.eval().requires_grad_(False), taught.tokenizer
        near = smooth_gradients(self.parts, recipe.neighbour_smoothing or SmoothingSettings())
        self.neighbours = near and replace(
            near, ids_Kn=near.ids_Kn.to(device), weights_Kn=near.weights_Kn.to(device)
        )

    def written(self, bundles: list[list[Edit]]) -> Losses:
        """The plans alone, without their images: mean over their ids."""
        tokenizer = self.parts.tokenizer
        examples = [[_plan_alone(edit, tokenizer) for edit in bundle] for bundle in bundles]
        batch = collate(examples, tokenizer.vocabulary.pad).to(self.device)
        loss = _logits(self.student, batch, tokenizer)[3].mean()
        return Losses(loss, math.nan, math.nan, math.nan, float(loss.detach()))

    def losses(self, bundles: list[Bundle]) -> Losses:
        """The mean over the codes of all targets."""
        tokenizer = self.parts.tokenizer
        batch = _batch([[new for new, _ in bundle] for bundle in bundles], tokenizer).to(self.device)
        logits_NV, codes_N, changed_N, written_S = _logits(self.student, batch, tokenizer)
        logp_NV = logits_NV.log_softmax(-1)
        target_N = _target_loss(logp_NV, codes_N, self.neighbours)
        trust_B = torch.tensor([_trust(new) for bundle in bundles for new, _ in bundle])
        trust_B = trust_B.to(self.device)
        trust_N = trust_B.repeat_interleave(len(codes_N) // len(trust_B))
        taught_N = trust_N > 0
        divergence_N = torch.zeros_like(target_N)
        known = [[replace(edit, reasoning="") for new, edit in bundle if _trust(new)] for bundle in bundles]
        if any(known):
            with torch.no_grad():
                plain = _batch([bundle for bundle in known if bundle], self.teacher_tokenizer)
                taught_NV = _logits(self.teacher, plain.to(self.device), self.teacher_tokenizer)[0]
                taught_NV = taught_NV.log_softmax(-1)
            told_N = (taught_NV.exp() * (taught_NV - logp_NV[taught_N])).sum(-1)
            divergence_N = divergence_N.index_put((taught_N.nonzero()[:, 0],), told_N)
        total = (trust_N * divergence_N + (1 - trust_N) * target_N).mean()
        total = total + WRITTEN * written_S.sum() / len(codes_N)
        exact_N = -logp_NV.detach().gather(1, codes_N[:, None])[:, 0]
        return Losses(
            total,
            float(exact_N[changed_N].mean()),
            float(exact_N[~changed_N].mean()),
            float(divergence_N.detach()[taught_N].mean()),
            float(written_S.detach().mean()) if len(written_S) else math.nan,
        )


def _trust(edit: Edit) -> float:
    """None behind a plan that says more than the teacher was told."""
    if edit.family in UNKNOWN or (edit.reasoning and edit.family not in GLOBAL):
        return 0.0
    return TRUST.get(edit.group, 0.0)


def _from(recipe: SftRecipe, start: str) -> Any:
    return recipe.model.model_copy(update={"start": start})


def _plan_alone(edit: Edit, words: TextTokenizer) -> Example:
    example = edit_example(edit, words, prefill="reasoning", stitched=True)
    end = int((example.ids == words.vocabulary.boi).nonzero()[0][-1]) + 1
    return replace(example, ids=example.ids[:end], kinds=example.kinds[:end], changed=example.changed[:end])


def _batch(bundles: list[list[Edit]], words: TextTokenizer) -> Batch:
    return collate([[_whole(edit, words) for edit in bundle] for bundle in bundles], words.vocabulary.pad)


def _whole(edit: Edit, words: TextTokenizer) -> Example:
    example = edit_example(edit, words, prefill="reasoning" if edit.reasoning else "size", stitched=True)
    if edit.family == COMPOSED:  # its plan is given
        return replace(example, kinds=np.where(example.kinds == Kind.TEXT, Kind.FORCED, example.kinds))
    return example


def _logits(policy: Any, batch: Batch, words: TextTokenizer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits over the codes (N, V) where a code is due, the codes (N,), which cells change (N,), and the loss
    of the S ids of text before an image (S,)."""
    first, last = words.vocabulary.first_visual, words.vocabulary.size
    rows, columns = (batch.kinds_BT == Kind.VISUAL).nonzero(as_tuple=True)
    with torch.autocast(batch.ids_BT.device.type, dtype=torch.bfloat16):
        hidden_BTC = shared_hidden_states(
            policy, batch.ids_BT, batch.prefix_PL, batch.prefix_mask_PL, batch.owner_B
        )
        logits_NV = hidden_BTC[rows, columns - 1] @ policy.lm_head.weight[first:last].T
        lines, places = (batch.kinds_BT == Kind.TEXT).nonzero(as_tuple=True)
        logits_ST = hidden_BTC[lines, places - 1] @ policy.lm_head.weight[:first].T
    written_S = torch.nn.functional.cross_entropy(
        logits_ST.float(), batch.ids_BT[lines, places], reduction="none"
    )
    codes_N = batch.ids_BT[rows, columns] - first
    return logits_NV.float(), codes_N, batch.changed_BT[rows, columns], written_S


def _target_loss(logp_NV: Tensor, codes_N: Tensor, near: NeighbourSmoothing | None) -> Tensor:
    """Minus the log-likelihood of the target's codes, shared with codes like them, (N,)."""
    own_N = logp_NV.gather(1, codes_N[:, None])[:, 0]
    if near is None:
        return -own_N
    near_Nn = logp_NV.gather(1, near.ids_Kn[codes_N]) + near.weights_Kn[codes_N]
    return -((1 - near.share) * own_N + near.share * near_Nn.logsumexp(-1))


def teach(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    recipe = load_stage(
        Path(__file__).parent / "language.toml",
        [f"run.folder={options.out}", f"run.compile={str(options.compile).lower()}"],
    )
    assert isinstance(recipe, SftRecipe)
    device = torch.device(pick_device(options.device))
    lesson = Lesson(options.start, options.teacher or options.start, recipe, device, plans=options.plans > 0)
    bundles = Bundles(options.shards, np.random.default_rng(options.seed), options.plans)
    exercises = Exercises(
        load_vision_tokenizer(str(lesson.parts.vision_path), device=device),
        np.random.default_rng([options.seed, 1]),
    )
    settings = recipe.optimiser.model_copy(
        update={"learning_rate": options.rate / 2, "muon_learning_rate": options.rate}
    )
    optimisers = create_optimisers(lesson.student.named_parameters(), settings)
    average = WeightAverage(lesson.student, recipe.ema or Ema())
    began = saved = time.monotonic()
    whole, step, seen = options.minutes * 60, 0, []
    updates: Iterator[list[Bundle]] = iter(())
    while (now := time.monotonic()) - began < whole:
        drawn = next(updates, None)
        if drawn is None:
            updates = bundles.pool(options.batch // SHARE, 8, lesson.parts.tokenizer)
            drawn = next(updates)
        step += 1
        if bundles.rng.random() < options.alone:
            losses = lesson.written(exercises.texts(options.batch * 3 // 8))
        else:
            kept = [bundle for bundle in drawn if bundles.rng.random() >= options.drawings]
            extra = exercises.drawings(len(drawn) - len(kept))
            losses = lesson.losses([*kept, *([(edit, edit) for edit in bundle] for bundle in extra)])
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(lesson.student.parameters(), 1.0)
        falling = options.floor + (1 - options.floor) * 0.5 * (1 + math.cos(math.pi * (now - began) / whole))
        set_rates(optimisers, min(1.0, step / WARMUP) * falling)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        average.update(step)
        seen.append(
            (float(losses.total.detach()), losses.changed, losses.kept, losses.divergence, losses.written)
        )
        if step % 20 == 0:
            means = " ".join(f"{v:.3f}" for v in np.nanmean(seen, axis=0))
            spent = f"cpu {time.process_time():.0f} s"
            print(
                f"{step} loss changed kept divergence written {means} rate {falling:.2f} {spent}", flush=True
            )
            seen.clear()
        if now - saved > 300:
            _save(lesson, average, options.out, recipe, step)
            saved = now
    _save(lesson, average, options.out, recipe, step)


def _save(lesson: Lesson, average: WeightAverage, out: str, recipe: SftRecipe, step: int) -> None:
    with average.applied():
        save_model(lesson.parts, out, recipe, step=step)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("start", help="a model folder, the student's beginning")
    add("out", help="folder of the taught model")
    add(
        "shards",
        nargs="+",
        help="folders of shards with requests; FOLDER=WEIGHT draws one more or less often",
    )
    add("--teacher", help="a model folder; START unless given")
    add("--minutes", type=float, default=60.0, help="of wall-clock time, over which the rate falls")
    add("--batch", type=int, default=32, help="edits of an update")
    add("--rate", type=float, default=1e-3, help="peak learning rate of Muon; half of it for AdamW")
    add("--floor", type=float, default=0.01, help="of the rate at the end, as a share of the peak")
    add("--plans", type=float, default=0.0, help="share of edits with their reasoning text before the image")
    add("--alone", type=float, default=0.0, help="share of updates that teach texts of exercises, no images")
    add("--drawings", type=float, default=0.0, help="share of exercises among what is drawn")
    add("--compile", action="store_true", help="norms, gates and softmax by torch.compile")
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1)
    add("--device", default="cpu", help="cpu, cuda or auto")
    teach(parser.parse_args())


if __name__ == "__main__":
    main()
