"""The loss: shared sources equal the plain pass, and the policy's own likelihood."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from earl.config.sections import Precision, TokenDropout
from earl.data.collate import Batch, collate
from earl.data.examples import Example, edit_example
from earl.data.shards import load_shards
from earl.policy.dropout import set_dropout
from earl.policy.likelihood import token_scores
from earl.policy.loading import create_policy
from earl.sequence.kinds import Kind
from earl.sequence.tokenizer import TextTokenizer
from earl.training.sft.objective import SftObjective

FLOAT = Precision(compute="float32")


@pytest.fixture(scope="module")
def tokenizer(room: Path) -> TextTokenizer:
    return TextTokenizer.from_folder(room / "text")


@pytest.fixture(scope="module", params=["one grid", "two grids"])
def bundles(request: pytest.FixtureRequest, room: Path, tokenizer: TextTokenizer) -> list[list[Example]]:
    shards = load_shards(room / "train")
    found = []
    for number, rows in enumerate(shards.bundles(3)[:5]):
        edits = [shards[row] for row in rows]
        if request.param == "two grids" and number % 2:
            edits = [
                replace(
                    e, source_codes=e.source_codes[:3], target_codes=e.target_codes[:3], changed=e.changed[:3]
                )
                for e in edits
            ]
        found.append([edit_example(e, tokenizer) for e in edits])
    return found


def loss_and_gradients(objective: SftObjective, batch: Batch) -> tuple[torch.Tensor, list[torch.Tensor]]:
    objective.zero_grad()
    total = objective(batch).total
    total.backward()
    return total.detach(), [p.grad.clone() for p in objective.parameters() if p.grad is not None]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_shared_sources_change_nothing(
    bundles: list[list[Example]], tokenizer: TextTokenizer, attention: str
) -> None:
    policy = create_policy("tiny", tokenizer.vocabulary, 1, attention=attention)
    objective = SftObjective(policy, tokenizer.vocabulary, FLOAT).train()
    pad = tokenizer.vocabulary.pad
    shared, apart = collate(bundles, pad), collate([[e] for bundle in bundles for e in bundle], pad)
    assert shared.prefix_PL is not None and apart.prefix_PL is None
    assert shared.ids_BT.shape[1] < apart.ids_BT.shape[1] and shared.active == apart.active
    (a, gradients_a), (b, gradients_b) = (
        loss_and_gradients(objective, shared),
        loss_and_gradients(objective, apart),
    )
    assert a.item() == pytest.approx(b.item(), rel=1e-6)
    assert len(gradients_a) == len(gradients_b) == len(list(policy.parameters()))
    for one, other in zip(gradients_a, gradients_b, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_equals_the_policys_likelihood(bundles: list[list[Example]], tokenizer: TextTokenizer) -> None:
    policy = create_policy("tiny", tokenizer.vocabulary, 1)
    batch = collate([[e] for bundle in bundles for e in bundle], tokenizer.vocabulary.pad)
    losses = SftObjective(policy, tokenizer.vocabulary, FLOAT, chunk=7)(batch)
    logprobs_BT = token_scores(
        policy, batch.ids_BT, batch.mask_BT, batch.kinds_BT, tokenizer.vocabulary
    ).logprobs_BT
    assert losses.total.item() == pytest.approx(-logprobs_BT.sum().item(), rel=1e-5)
    total, count = losses.metrics["loss"].tolist()
    assert total == pytest.approx(losses.total.item(), rel=1e-6) and count == batch.active
    parts = [losses.metrics[name] for name in ("changed", "kept", "text")]
    assert torch.stack(parts).sum(0).tolist() == pytest.approx([total, count], rel=1e-6)
    changed_BT = batch.changed_BT
    assert losses.metrics["changed"][0].item() == pytest.approx(
        -logprobs_BT[changed_BT].sum().item(), rel=1e-5
    )


@pytest.mark.parametrize("together", [False, True], ids=["apart", "shared"])
def test_hidden_tokens_are_not_read_and_keep_their_loss(
    bundles: list[list[Example]], tokenizer: TextTokenizer, together: bool
) -> None:
    policy, vocabulary = create_policy("tiny", tokenizer.vocabulary, 1), tokenizer.vocabulary
    dropout = TokenDropout(sequences=1.0, rates=(1.0, 1.0))
    objective = SftObjective(policy, vocabulary, FLOAT, dropout=dropout).train()
    singles = [[e] for bundle in bundles for e in bundle]
    batch = collate(bundles if together else singles, vocabulary.pad)
    whole = collate(singles, vocabulary.pad)
    read_BT = torch.where(whole.loss_BT, vocabulary.img, whole.ids_BT)  # everything hidden, by hand
    logits_BTV = policy(input_ids=read_BT).logits[:, :-1].double()
    expected = 0.0
    first = vocabulary.first_visual
    for kind, start, stop in ((Kind.TEXT, 0, first), (Kind.VISUAL, first, vocabulary.size)):
        chosen_BT = whole.kinds_BT[:, 1:] == kind
        places_n = whole.ids_BT[:, 1:][chosen_BT] - start
        logprobs_nV = logits_BTV[chosen_BT][:, start:stop].log_softmax(-1)
        expected -= logprobs_nV.gather(1, places_n[:, None]).sum().item()
    losses = objective(batch)
    assert losses.total.item() == pytest.approx(expected, rel=1e-5)
    assert losses.metrics["dropout"].tolist() == pytest.approx([expected, batch.active], rel=1e-5)
    assert losses.metrics["loss"].tolist() == [0, 0] and losses.metrics["changed"].tolist() == [0, 0]


def test_hiding_is_of_training_only_and_drawn_by_torchs_generator(
    bundles: list[list[Example]], tokenizer: TextTokenizer
) -> None:
    policy, vocabulary = create_policy("tiny", tokenizer.vocabulary, 1), tokenizer.vocabulary
    batch = collate(bundles, vocabulary.pad)
    plain = SftObjective(policy, vocabulary, FLOAT)(batch)
    objective = SftObjective(policy, vocabulary, FLOAT, dropout=TokenDropout(sequences=0.5))
    assert objective.eval()(batch).total.item() == plain.total.item()
    totals, shares = [], []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses = objective.train()(batch)
        totals.append(losses.total.item())
        shares.append(losses.metrics["dropout"][1].item() / batch.active)
        seen = losses.metrics["loss"][1] + losses.metrics["dropout"][1]
        assert seen.item() == batch.active
    assert totals[0] == totals[1] != totals[2] and all(0 < share < 1 for share in shares)


def test_hiding_refuses_rates_the_wrong_way_round() -> None:
    with pytest.raises(ValueError, match=r"rates = \[0.8, 0.2\]: the first is above the second"):
        TokenDropout(rates=(0.8, 0.2))


def test_hits_are_the_likeliest_visual_tokens(bundles: list[list[Example]], tokenizer: TextTokenizer) -> None:
    policy = create_policy("tiny", tokenizer.vocabulary, 1)
    objective = SftObjective(policy, tokenizer.vocabulary, FLOAT, chunk=5)
    batch = collate([[e] for bundle in bundles for e in bundle], tokenizer.vocabulary.pad)
    with torch.no_grad():
        logits_BTV = policy(input_ids=batch.ids_BT).logits
    first = tokenizer.vocabulary.first_visual
    best_BT = logits_BTV[:, :-1, first:].argmax(-1) + first
    visual_BT = batch.kinds_BT == Kind.VISUAL
    expected_BT = torch.zeros_like(visual_BT)
    expected_BT[:, 1:] = (best_BT == batch.ids_BT[:, 1:]) & visual_BT[:, 1:]
    assert torch.equal(objective.hits(batch), expected_BT)


def test_bf16_is_close_to_float32(bundles: list[list[Example]], tokenizer: TextTokenizer) -> None:
    policy = create_policy("tiny", tokenizer.vocabulary, 1, attention="eager")
    batch = collate(bundles, tokenizer.vocabulary.pad)
    totals = [
        SftObjective(policy, tokenizer.vocabulary, Precision(compute=compute))(batch).total.item()
        for compute in ("float32", "bf16")
    ]
    assert totals[1] == pytest.approx(totals[0], rel=2e-3) and totals[0] != totals[1]
    assert np.isfinite(totals).all()


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_dropout_acts_where_the_release_has_it_and_in_training_alone(
    bundles: list[list[Example]], tokenizer: TextTokenizer, attention: str
) -> None:
    batch = collate(bundles[:2], tokenizer.vocabulary.pad)

    def scores(rate: float, train: bool) -> torch.Tensor:
        policy = create_policy("tiny", tokenizer.vocabulary, 1, attention=attention)
        set_dropout(policy, rate)
        objective = SftObjective(policy, tokenizer.vocabulary, FLOAT).train(train)
        torch.manual_seed(5)
        return objective.score(policy, batch).logprobs_BT.detach()

    plain = scores(0.0, True)
    assert torch.equal(scores(0.1, False), plain), "validation and use see every activation"
    assert not torch.allclose(scores(0.1, True), plain, atol=1e-3)
    assert torch.equal(scores(0.1, True), scores(0.1, True)), "torch's generator decides it"


def test_dropout_of_the_embeddings_scales_what_it_leaves(tokenizer: TextTokenizer) -> None:
    policy = create_policy("tiny", tokenizer.vocabulary, 1).train()
    ids = torch.arange(500)[None] % 300
    whole = policy.model.embed_tokens(ids)
    set_dropout(policy, 0.25)
    dropped = policy.model.embed_tokens(ids)
    kept = dropped != 0
    assert abs(kept.float().mean().item() - 0.75) < 0.01
    torch.testing.assert_close(dropped[kept], whole[kept] / 0.75)
    assert {layer.dropout.p for layer in policy.model.layers} == {0.25}
    assert {layer.self_attn.attention_dropout for layer in policy.model.layers} == {0.25}
