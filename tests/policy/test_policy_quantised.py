"""8-bit weights through torchao, where it is installed: answers close, sampling runs, clear refusals."""

from __future__ import annotations

import builtins

import pytest
import torch

from earl.errors import ConfigError, MissingExtraError
from earl.policy import add_lora, create_policy, load_policy, quantise


@pytest.fixture
def torchao():
    return pytest.importorskip("torchao", reason="earl-edit[quant] is not installed")


def logprobs(policy, ids):
    with torch.no_grad():
        return policy(input_ids=ids).logits.float().log_softmax(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_answers_are_close_and_the_matrices_are_small(torchao, ids, dtype):
    plain = create_policy("tiny", ids, seed=0, dtype=dtype)
    small = quantise(create_policy("tiny", ids, seed=0, dtype=dtype), "int8")
    tokens = torch.randint(0, ids.size, (2, 30), generator=torch.Generator().manual_seed(0))
    before, after = logprobs(plain, tokens), logprobs(small, tokens)
    divergence = (before.exp() * (before - after)).sum(-1)
    assert 0 < divergence.mean() < 1e-3, "nats a token; not 0: something was quantised"
    weight = small.model.layers[0].mlp.up_proj.weight
    assert (
        weight.qdata.dtype == torch.int8
        and weight.qdata.shape == plain.model.layers[0].mlp.up_proj.weight.shape
    )
    assert torch.equal(small.lm_head.weight, plain.lm_head.weight)


def test_an_edit_with_8_bit_weights(torchao, model_folder, tmp_path):
    from PIL import Image

    from earl.cli import main

    Image.new("RGB", (64, 64), (90, 160, 80)).save(tmp_path / "a.png")
    words = [
        "edit",
        str(tmp_path / "a.png"),
        "make it blue",
        "-o",
        str(tmp_path / "b.png"),
        "--device",
        "cpu",
    ]
    assert main([*words, "--model", str(model_folder), "--quantize", "int8"]) == 0
    assert Image.open(tmp_path / "b.png").size == (64, 64)


def test_the_engine_reports_the_likelihood_of_the_quantised_policy(torchao, model_folder):
    from earl.policy import token_scores_plain
    from earl.records import Grid
    from earl.sampling import Request
    from earl.sampling.native import NativeEngine
    from earl.sequence import TextTokenizer, completion_kinds

    tokenizer = TextTokenizer.from_folder(model_folder)
    policy = quantise(load_policy(model_folder), "int8")
    prompt = (tokenizer.vocabulary.bos, *tokenizer.encode("make it blue"))
    (group,) = NativeEngine(policy, tokenizer).generate([Request(prompt, (0, 1), Grid(3, 3))])
    for done in group:
        ids = torch.tensor([[*prompt, *done.ids]])
        kinds = [0] * len(prompt) + completion_kinds(done.ids, tokenizer, "size").tolist()
        everywhere = torch.ones_like(ids, dtype=torch.bool)
        found = token_scores_plain(policy, ids, everywhere, torch.tensor([kinds]), tokenizer.vocabulary)
        assert (found.logprobs_BT[0, len(prompt) :] - torch.tensor(done.logprobs)).abs().max() < 1e-3


def test_what_cannot_be_quantised_is_one_sentence(ids, monkeypatch):
    policy = create_policy("tiny", ids, seed=0)
    with pytest.raises(ConfigError, match="int8, int4"):
        quantise(policy, "int3")
    with pytest.raises(ConfigError, match="CUDA"):
        quantise(policy, "int4")
    real = builtins.__import__

    def missing(name, *more, **most):
        if name.startswith("torchao"):
            raise ImportError("No module named 'torchao'")
        return real(name, *more, **most)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", missing)
        with pytest.raises(MissingExtraError, match=r"earl-edit\[quant\]"):
            quantise(policy, "int8")
    with pytest.raises(ConfigError, match="earl convert"):
        quantise(add_lora(policy, 2), "int8")
