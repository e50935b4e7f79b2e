import math

import pytest
import torch
from plain_likelihood import token_scores_plain
from safetensors.torch import load_file

from earl.policy import likelihood
from earl.policy.adapters import add_lora
from earl.policy.likelihood import NeighbourSmoothing, Scoring, recompute_activations, token_scores
from earl.policy.loading import create_policy, load_policy

SHAPES = [
    {"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 1, "num_hidden_layers": 2},
    {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 4, "num_hidden_layers": 1},
    {"hidden_size": 40, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 3},
]


def louder(model):
    """Weights large enough that distributions are not flat."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(4)
    return model


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_equal_to_the_plain_twin_with_gradients(ids, random_batch, shape, temperature):
    tokens, mask, kinds = random_batch(ids, seed=1)
    weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))
    results = []
    for function in (token_scores, token_scores_plain):
        model = louder(create_policy({"intermediate_size": 96, **shape}, ids, seed=3))
        scoring = Scoring(temperature, chunk=5, entropy=True)
        logprobs, entropy = function(model, tokens, mask, kinds, ids, scoring)
        (logprobs * weights).sum().backward()
        results.append((logprobs, entropy, [parameter.grad for parameter in model.parameters()]))
    (logprobs, entropy, grads), (logprobs_plain, entropy_plain, grads_plain) = results
    assert logprobs.dtype == torch.float32 and logprobs.abs().max() > 4 and not entropy.requires_grad
    assert (logprobs - logprobs_plain).abs().max() < 1e-5
    assert (entropy - entropy_plain).abs().max() < 1e-5
    for grad, plain in zip(grads, grads_plain, strict=True):
        assert (grad - plain).abs().max() < 1e-5 * max(1.0, plain.abs().max().item())


@pytest.mark.parametrize("cut", [(3, 1.0), (0, 0.6), (6, 0.8)], ids=str)
def test_under_the_sampler_s_cut_equal_to_the_plain_twin(ids, random_batch, cut):
    tokens, mask, kinds = random_batch(ids, seed=1)
    weights = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(2))
    results = []
    for function in (token_scores, token_scores_plain):
        model = louder(create_policy("tiny", ids, seed=3))
        scoring = Scoring(0.7, 5, True, None, *cut)
        logprobs, entropy = function(model, tokens, mask, kinds, ids, scoring)
        (logprobs * weights).sum().backward()
        results.append((logprobs, entropy, [parameter.grad for parameter in model.parameters()]))
    (logprobs, entropy, grads), (logprobs_plain, entropy_plain, grads_plain) = results
    assert logprobs.isfinite().all() and entropy.max() <= math.log((cut[0] or 1000) + 1)
    assert (logprobs - logprobs_plain).abs().max() < 1e-5
    assert (entropy - entropy_plain).abs().max() < 1e-5
    for grad, plain in zip(grads, grads_plain, strict=True):
        assert (grad - plain).abs().max() < 1e-5 * max(1.0, plain.abs().max().item())


def test_a_cut_by_hand():
    # Probabilities 0.4, 0.3, 0.2, 0.1. Top-k 2 leaves 0.4 and 0.3; the id that was drawn always counts.
    logits, head = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log().expand(2, 4), torch.eye(4)
    targets = torch.tensor([1, 3])
    scores = {
        cut: likelihood._ColumnLogprobs.apply(logits, head, targets, Scoring(1.0, 8, False, None, *cut), None)
        for cut in ((2, 1.0), (0, 0.5), (3, 0.45))
    }
    for cut, expected in (
        ((2, 1.0), (0.3 / 0.7, 0.1 / 0.8)),
        ((0, 0.5), (0.3 / 0.7, 0.1 / 0.8)),
        ((3, 0.45), (0.3 / 0.7, 0.1 / 0.5)),  # of three 0.444 lies before the second, below 0.45
    ):
        given = scores[cut][0].exp().tolist()
        assert given[0] == pytest.approx(expected[0], abs=1e-6)
        if cut != (3, 0.45):
            assert given[1] == pytest.approx(expected[1], abs=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_smoothed_gradients_equal_the_plain_twin(ids, random_batch, share):
    tokens, mask, kinds = random_batch(ids, seed=1)
    draws = torch.Generator().manual_seed(2)
    weights = torch.randn(tokens.shape, generator=draws)
    own = torch.arange(ids.codebook_size)[:, None]
    near = (own + torch.tensor([0, 1, 3])) % ids.codebook_size
    smoothing = NeighbourSmoothing(near, -torch.rand(near.shape, generator=draws), share)
    results = []
    for function, shared in (
        (token_scores, smoothing),
        (token_scores_plain, smoothing),
        (token_scores, None),
    ):
        model = louder(create_policy("tiny", ids, seed=3))
        scoring = Scoring(0.7, chunk=5, smoothing=shared)
        logprobs = function(model, tokens, mask, kinds, ids, scoring).logprobs_BT
        (logprobs * weights).sum().backward()
        results.append((logprobs, [parameter.grad for parameter in model.parameters()]))
    (logprobs, grads), (logprobs_plain, grads_plain), (without, grads_without) = results
    assert torch.equal(logprobs, without), "values are those of the codes themselves"
    assert (logprobs - logprobs_plain).abs().max() < 1e-5
    for grad, plain in zip(grads, grads_plain, strict=True):
        assert (grad - plain).abs().max() < 1e-5 * max(1.0, plain.abs().max().item())
    away = max((a - b).abs().max() for a, b in zip(grads, grads_without, strict=True))
    assert away > 0.01 * max(grad.abs().max() for grad in grads)


def test_smoothing_leaves_the_choice_among_neighbours_as_it_is():
    # Probabilities 0.5, 0.3, 0.2; code 0 was drawn, code 1 looks just like it. d log(p0 + p1) / d logit
    # is p0 / (p0 + p1) - p0, and so on: code 1 rises as code 0 does, by their shares.
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    head = torch.eye(3, requires_grad=True)
    smoothing = NeighbourSmoothing(
        torch.tensor([[0, 1], [1, 0], [2, 2]]), torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, -99.0]]), 1.0
    )
    value, _ = likelihood._ColumnLogprobs.apply(logits, head, torch.tensor([0]), Scoring(), smoothing)
    assert value.item() == pytest.approx(math.log(0.5))
    value.sum().backward()
    expected = torch.tensor([0.625 - 0.5, 0.375 - 0.3, -0.2])
    torch.testing.assert_close(head.grad, expected[:, None] * logits)


def test_without_entropy_the_same_values_and_gradients(ids, random_batch):
    tokens, mask, kinds = random_batch(ids, seed=5)
    grads = []
    for with_entropy in (False, True):
        model = louder(create_policy("tiny", ids, seed=3))
        logprobs = token_scores(model, tokens, mask, kinds, ids, Scoring(entropy=with_entropy)).logprobs_BT
        logprobs.sum().backward()
        grads.append([logprobs.detach(), *(parameter.grad for parameter in model.parameters())])
    for one, other in zip(*grads, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_forced_and_padding_are_zero_and_give_no_gradient(ids, random_batch):
    tokens, mask, kinds = random_batch(ids, seed=7)
    model = create_policy("tiny", ids, seed=0)
    logprobs = token_scores(model, tokens, mask, kinds, ids).logprobs_BT
    assert (logprobs[kinds == 0] == 0).all() and (logprobs[kinds != 0] < 0).all()
    token_scores(model, tokens, mask, torch.zeros_like(kinds), ids).logprobs_BT.sum()
    assert model.lm_head.weight.grad is None


def test_probabilities_of_a_kind_sum_to_one(ids):
    model = louder(create_policy("tiny", ids, seed=0))
    visual = torch.arange(ids.first_visual, ids.first_visual + ids.codebook_size)
    tokens = torch.stack([torch.full_like(visual, ids.bos), visual], 1)
    kinds = torch.tensor([[0, 2]]).expand(len(visual), 2)
    logprobs = token_scores(model, tokens, torch.ones_like(tokens), kinds, ids).logprobs_BT
    assert logprobs[:, 1].exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_padding_side_changes_nothing(ids):
    model = louder(create_policy("tiny", ids, seed=0))
    tokens = torch.tensor([[ids.bos, 3, 120, 121, 4]])
    kinds = torch.tensor([[0, 1, 2, 2, 1]])
    alone = token_scores(model, tokens, torch.ones_like(tokens), kinds, ids).logprobs_BT[0]
    for left, right in ((3, 0), (0, 3), (2, 1)):
        pad = torch.nn.functional.pad
        padded = token_scores(
            model,
            pad(tokens, (left, right), value=ids.pad),
            pad(torch.ones_like(tokens), (left, right)),
            pad(kinds, (left, right)),
            ids,
        ).logprobs_BT[0, left : left + 5]
        assert (padded - alone).abs().max() < 1e-5


def test_release_s_logits_give_the_same_likelihoods(vectors):
    class Release:
        size, first_visual, codebook_size, pad, bos, eos = 1200, 688, 512, 676, 682, 683

    expected = load_file(vectors / "expected.safetensors")
    tokens = expected["input_ids"]
    kinds = torch.where(tokens >= Release.first_visual, 2, 1)
    kinds[:, 0] = 0
    ours = token_scores(load_policy(vectors), tokens, torch.ones_like(tokens), kinds, Release).logprobs_BT
    for row, at in ((0, 5), (1, 20), (2, 40)):
        logits, target = expected["logits"][row, at - 1], tokens[row, at].item()
        start, stop = (688, 1200) if target >= 688 else (0, 688)
        value = logits[start:stop].log_softmax(0)[target - start]
        assert ours[row, at].item() == pytest.approx(value.item(), abs=1e-4)


def test_a_token_of_the_wrong_kind_is_our_mistake_and_said(ids):
    tokens = torch.tensor([[ids.bos, 5]])
    with pytest.raises(ValueError, match="visual"):
        token_scores(create_policy("tiny", ids, seed=0), tokens, tokens > 0, torch.tensor([[0, 2]]), ids)


def test_bfloat16_autocast(ids, random_batch):
    tokens, mask, kinds = random_batch(ids, seed=9)
    model = louder(create_policy("tiny", ids, seed=0))
    exact = token_scores(model, tokens, mask, kinds, ids).logprobs_BT
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = token_scores(model, tokens, mask, kinds, ids).logprobs_BT
    assert rough.dtype == torch.float32 and 0 < (rough - exact).abs().max() < 0.5
    rough.sum().backward()
    assert torch.isfinite(model.lm_head.weight.grad).all()


def test_through_lora_and_with_checkpointing(ids, random_batch):
    tokens, mask, kinds = random_batch(ids, seed=11)
    base = louder(create_policy("tiny", ids, seed=0))
    before = token_scores(base, tokens, mask, kinds, ids).logprobs_BT.detach()
    model = add_lora(base, 4)
    assert torch.equal(token_scores(model, tokens, mask, kinds, ids).logprobs_BT, before)
    recompute_activations(model)
    model.train()
    token_scores(model, tokens, mask, kinds, ids).logprobs_BT.sum().backward()
    trained = [name for name, parameter in model.named_parameters() if parameter.grad is not None]
    assert trained and all("lora_" in name for name in trained)
