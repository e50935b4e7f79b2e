"""Scoring: equal to its plain twin, however a prompt is shared, and equal to the release's numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_likelihood import token_scores_plain
from safetensors.torch import load_file

from earl.config.grpo import LossSettings
from earl.config.sections import Precision
from earl.policy import likelihood
from earl.policy.adapters import add_lora
from earl.policy.likelihood import NeighbourSmoothing, Scoring, TokenScores, recompute_activations
from earl.policy.loading import create_policy, load_policy
from earl.records import Completion, Verdict
from earl.sequence.vocabulary import Vocabulary
from earl.training.grpo.advantages import group_advantages
from earl.training.grpo.batches import Group, Rollout, RolloutBatch, make_batch, without_weight
from earl.training.grpo.logprobs import GrpoObjective
from earl.training.grpo.loss import grpo_loss
from earl.training.objective import positions_of_block
from earl.training.reference import Reference

VECTORS = next(p for p in Path(__file__).resolve().parents if p.name == "tests") / "vectors"
VOCABULARY = Vocabulary.compact(80, 40)
FLOAT = Precision(compute="float32")
SMOOTHING = NeighbourSmoothing(
    (torch.arange(40)[:, None] + torch.arange(4)) % 40, -0.3 * torch.arange(4.0).expand(40, 4), 0.8
)


def rollout(rng: np.random.Generator, reward: float | None, side: int) -> Rollout:
    """A completion of a few text ids and side x side visual ones, every fifth forced."""
    text = rng.integers(0, 80, 4)
    visual = rng.integers(VOCABULARY.first_visual, VOCABULARY.size, side * side)
    ids = tuple(int(i) for i in (*text, *visual))
    kinds = np.array([1] * 4 + [2] * len(visual), np.int8)
    kinds[::5] = 0
    return Rollout(Completion(ids, (-1.0,) * len(ids), "stop"), kinds, Verdict("ok"), reward)


def groups(seed: int = 0) -> list[Group]:
    """Prompts, completions and groups of different lengths, one verdict missing."""
    rng = np.random.default_rng(seed)
    made = []
    for index, (length, side, rewards) in enumerate(
        [(9, 3, (1.0, 4.0, 4.0)), (14, 4, (0.0, None, 9.0, 2.0)), (6, 2, (3.0, 8.0))]
    ):
        prompt = tuple(int(i) for i in rng.integers(0, 80, length))
        rollouts = tuple(rollout(rng, reward, side) for reward in rewards)
        made.append(Group(f"p{index}", "do it", "add", "simple", prompt, rollouts))
    return made


def batch_of(made: list[Group]) -> RolloutBatch:
    advantages = [group_advantages(torch.tensor([group.rewards]))[0].tolist() for group in made]
    return make_batch(made, advantages, pad=VOCABULARY.pad)


def policy(attention: str = "eager", seed: int = 0):
    model = create_policy("tiny", VOCABULARY, seed, attention=attention)
    with torch.no_grad():  # distributions that are far from flat
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model


def objective_of(model, vocabulary=VOCABULARY, settings=None, **options):
    return GrpoObjective(model, vocabulary, FLOAT, settings=settings or LossSettings(), **options)


def score(model, batch, **options):
    return objective_of(model, **options).score(model, batch, entropy=True)


def score_plain(model, batch, temperature=1.0, smoothing=None):
    """The plain twin: every rollout with its own prompt, logits of the whole vocabulary."""
    prefix_BL, present_BL = batch.prefix_PL[batch.owner_B], batch.prefix_mask_PL[batch.owner_B]
    at_BL = torch.arange(prefix_BL.shape[1]) - (~present_BL).sum(dim=1)[:, None]  # padded on the left
    ids = torch.cat([prefix_BL.gather(1, at_BL.clamp_min(0)), batch.ids_BT], dim=1)
    mask = torch.cat([at_BL >= 0, batch.mask_BT], dim=1)
    kinds = torch.cat([torch.zeros_like(prefix_BL), batch.kinds_BT], dim=1)
    scoring = Scoring(temperature, entropy=True, smoothing=smoothing)
    scores = token_scores_plain(model, ids, mask, kinds, VOCABULARY, scoring)
    start = batch.prefix_PL.shape[1]
    return TokenScores(scores.logprobs_BT[:, start:], scores.entropies_BT[:, start:])


def loss_and_gradients(model, batch, scorer):
    """Loss over active tokens with KL to a shifted reference, and all gradients."""
    model.zero_grad()
    logprobs, _ = scorer(model, batch)
    reference = logprobs.detach() - 0.3
    parts = grpo_loss(
        logprobs,
        batch.advantages_B,
        batch.active_BT,
        LossSettings(kl_coefficient=0.1),
        reference_BT=reference,
    )
    (parts.total / batch.active).backward()
    return parts.total.item() / batch.active, [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("sharing", ["cache", "mask"])
@pytest.mark.parametrize("chunk", [7, 1024])
@pytest.mark.parametrize("smoothing", [None, SMOOTHING], ids=["codes", "neighbours"])
def test_shared_prompts_equal_the_plain_twin(sharing, attention, chunk, smoothing):
    model, batch = policy(attention), batch_of(groups())

    def fast(model, batch):
        return score(model, batch, temperature=0.8, sharing=sharing, chunk=chunk, smoothing=smoothing)

    def plain(model, batch):
        return score_plain(model, batch, temperature=0.8, smoothing=smoothing)

    for ours, theirs in zip(fast(model, batch), plain(model, batch), strict=True):
        assert (ours - theirs)[batch.kinds_BT != 0].abs().max() < 1e-5
        assert not ours[batch.kinds_BT == 0].any()
    loss, gradients = loss_and_gradients(model, batch, fast)
    expected, wanted = loss_and_gradients(model, batch, plain)
    assert loss == pytest.approx(expected, abs=1e-5)
    assert max((a - b).abs().max().item() for a, b in zip(gradients, wanted, strict=True)) < 1e-5
    assert max(b.abs().max().item() for b in wanted) > 1e-2, "there is something to compare"


def test_blocks_are_as_large_as_the_dry_run_counts(monkeypatch):
    made, rows = groups(), []
    wide = tuple(rollout(np.random.default_rng(seed), float(seed), 16) for seed in range(2))
    plain = likelihood._log_softmax
    monkeypatch.setattr(
        likelihood, "_log_softmax", lambda hidden, *rest: rows.append(len(hidden)) or plain(hidden, *rest)
    )
    batch = batch_of([replace(made[0], rollouts=wide)])
    score(policy(), batch)
    assert max(rows) == positions_of_block("grpo", "cpu") < int((batch.kinds_BT == 2).sum())


def test_the_mask_works_with_recomputed_activations():
    model, batch = policy(), batch_of(groups())

    def fast(model, batch):
        return score(model, batch, sharing="mask")

    loss, gradients = loss_and_gradients(model, batch, fast)
    recompute_activations(model)
    model.train()
    again, recomputed = loss_and_gradients(model, batch, fast)
    assert loss == again
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(gradients, recomputed, strict=True))


def test_micro_batches_add_up():
    model, made = policy(), groups()
    whole, _ = loss_and_gradients(model, batch_of(made), score)
    parts = [batch_of([group]) for group in made]
    losses = [loss_and_gradients(model, part, score)[0] for part in parts]
    active = [part.active for part in parts]
    total = sum(loss * count for loss, count in zip(losses, active, strict=True)) / sum(active)
    assert total == pytest.approx(whole, abs=1e-5)


def test_failed_rollouts_and_forced_tokens_are_not_active():
    made = groups()
    batch = batch_of(made)
    assert batch.sequences == 8, "nine rollouts, one without a verdict"
    assert batch.active == int((batch.kinds_BT != 0).sum())


def test_a_rank_without_groups_gives_zero_gradients():
    model = policy()
    objective = objective_of(model)
    losses = objective(without_weight(batch_of(groups())))
    losses.total.backward()
    assert losses.total.item() == 0.0
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_reference_copy_and_switched_off_adapter():
    batch = batch_of(groups())
    model = policy()
    objective = objective_of(model)
    before, reference = objective.score(model, batch)[0].detach(), Reference(model, rest_on_cpu=True)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    assert torch.equal(reference.score(objective, [batch])[0], before)
    adapted = add_lora(policy(), 2)
    objective, reference = objective_of(adapted), Reference(adapted)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1)
    assert torch.allclose(reference.score(objective, [batch])[0], before, atol=1e-6)
    assert not torch.allclose(objective.score(adapted, batch)[0], before, atol=1e-2)


# --- the release's own numbers ---


def golden() -> tuple[RolloutBatch, dict[str, torch.Tensor], dict, Vocabulary]:
    told = json.loads((VECTORS / "grpo.json").read_text())
    vectors = load_file(VECTORS / "grpo.safetensors")
    vocabulary = Vocabulary.from_dict(told["vocabulary"])
    rewards = vectors["rewards"].view(told["prompts"], told["group_size"])
    advantages = group_advantages(rewards)
    made = []
    for prompt in range(told["prompts"]):
        rollouts = []
        for member in range(told["group_size"]):
            row = prompt * told["group_size"] + member
            length = int(vectors["completion_mask"][row].sum())
            ids = tuple(vectors["completion_ids"][row, :length].tolist())
            kinds = 1 + vectors["completion_image_mask"][row, :length].numpy().astype(np.int8)
            completion = Completion(ids, (0.0,) * length, "stop")
            rollouts.append(Rollout(completion, kinds, Verdict("ok"), float(rewards[prompt, member])))
        present = vectors["prompt_mask"][prompt * told["group_size"]].bool()
        ids = tuple(vectors["prompt_ids"][prompt * told["group_size"]][present].tolist())
        made.append(Group(str(prompt), "", "", "simple", ids, tuple(rollouts)))
    batch = make_batch(made, advantages.tolist(), pad=vocabulary.pad)
    return batch, vectors, told, vocabulary


def test_an_average_by_rollouts_counts_rollouts():
    made = groups()
    advantages = [[0.5] * len(group.judged) for group in made]
    rows = [make_batch(made, advantages, pad=VOCABULARY.pad, average=way) for way in ("token", "sequence")]
    assert rows[1].active == sum(len(group.judged) for group in made) == 8
    assert rows[0].active == int(rows[0].active_BT.sum()) > 8
    model = policy()
    settings = LossSettings(average="sequence", kl_coefficient=0.0)
    loss = objective_of(model, settings=settings)(rows[1]).total / rows[1].active
    assert loss.item() == pytest.approx(-0.5, abs=1e-6), "every ratio is 1: minus the mean advantage"


def released(weights: str | None = None):
    model = load_policy(VECTORS / "lm", dtype="float32", attention="eager")
    if weights:
        model.load_state_dict(load_file(VECTORS / weights), strict=True)
    return model


@pytest.mark.parametrize("sharing", ["cache", "mask"])
def test_mirror_release_equals_the_golden_vectors(sharing):
    batch, vectors, told, vocabulary = golden()
    assert torch.allclose(batch.advantages_B, vectors["advantages"][:, 0], rtol=1e-4, atol=1e-6)
    model = released("grpo_policy.safetensors")
    settings = LossSettings(kl_coefficient=told["kl_coefficient"], mirror_release=True)
    objective = objective_of(model, vocabulary, settings, sharing=sharing)
    reference = Reference(released())
    found = reference.score(objective, [batch])[0]
    present = vectors["completion_mask"].bool()
    width = present.shape[1]
    assert torch.allclose(
        found[:, 1 : width + 1][present], vectors["reference_log_probs"][present], atol=1e-4
    )
    logprobs = objective.score(model, batch)[0]
    assert torch.allclose(
        logprobs[:, 1 : width + 1][present], vectors["policy_log_probs"][present], atol=1e-4
    )
    losses = objective(replace(batch, reference_BT=found))
    loss = losses.total / batch.active
    assert loss.item() == pytest.approx(told["loss_value"], rel=1e-4)
    kl = losses.metrics["kl"]
    assert float(kl[0] / kl[1]) == pytest.approx(told["kl_value"], rel=1e-4)
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    assert norm.item() == pytest.approx(told["grad_norm"], rel=1e-4)
    for gradient, wanted in (
        (model.lm_head.weight.grad, vectors["lm_head_grad"]),
        (model.model.layers[0].self_attn.q_proj.weight.grad, vectors["q_proj0_grad"]),
    ):
        assert (gradient - wanted).norm() / wanted.norm() < 1e-4


def test_tokens_that_rounding_decided_leave_the_loss_and_the_kl():
    """One token that the sampler found likely and trainer and reference differ on by 20 nats."""
    model = policy()
    batch = batch_of(groups())
    with torch.no_grad():
        honest = score(model, batch)[0]
    row, column = batch.active_BT.nonzero()[3].tolist()
    sampled, reference = honest.clone(), honest + 0.1
    sampled[row, column] += 20
    reference[row, column] += 20
    told = replace(batch, sampled_BT=sampled, reference_BT=reference)

    def run(given, bounds):
        objective = objective_of(model, settings=LossSettings(kl_coefficient=0.1, importance_range=bounds))
        model.zero_grad()
        losses = objective(given)
        losses.total.backward()
        return losses, model.lm_head.weight.grad.clone()

    kept, gradient = run(told, (0.2, 5.0))
    without = told.active_BT.clone()
    without[row, column] = False
    expected, by_hand = run(replace(told, active_BT=without), None)
    assert torch.allclose(kept.total, expected.total, rtol=1e-6)
    assert torch.allclose(gradient, by_hand, atol=1e-7)
    left_out, active = kept.metrics["disagreed"].tolist()
    assert (left_out, active) == (1, int(batch.active_BT.sum()))
    blown, wild = run(told, None)
    assert blown.metrics["kl"][0] > 1e6 * kept.metrics["kl"][0]
    assert wild.norm() > 100 * gradient.norm()
    assert "disagreed" not in blown.metrics
