"""Weights in 8 and 4 bits: products, answers, sampling, folders, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from earl.cli import main
from earl.config import SamplingSettings
from earl.errors import ConfigError, MissingExtraError, ModelFormatError
from earl.policy.adapters import add_lora
from earl.policy.int4 import GROUP, pack, unpack
from earl.policy.loading import create_policy, load_policy
from earl.policy.quantised import QuantisedLinear, quantise, quantised
from earl.policy.saving import save_policy, save_quantised
from earl.policy.stored import open_policy

WIDE = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192}
BITS = ("int8", "int4")


def restored(layer: QuantisedLinear) -> torch.Tensor:
    """The weight as it was meant, float32: the plain twin of the kernels."""
    scale = layer.weight_scale.float()
    if layer.bits == "int8":
        return layer.weight.float() * scale[:, None]
    q = unpack(layer.weight).float().view(layer.rows, -1, GROUP)
    step, middle = scale.transpose(0, 1).unbind(-1)
    return ((q - 8) * step[..., None] + middle[..., None]).view(layer.rows, layer.columns)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("rows", [1, 3, 12, 13, 96, 97, 150])
def test_products_for_few_and_for_many_rows_are_those_of_the_plain_weight(bits, rows):
    generator = torch.Generator().manual_seed(0)
    weight, x = torch.randn(320, 160, generator=generator), torch.randn(rows, 160, generator=generator)
    bias = torch.randn(320, generator=generator)
    layer = QuantisedLinear(bits, *quantised(weight, bits), bias)
    found = layer(x.view(1, rows, 160))
    expected = F.linear(x.bfloat16().float(), restored(layer), bias)
    assert found.shape == (1, rows, 320) and found.dtype == torch.float32
    assert (found[0] - expected).norm() < 0.01 * expected.norm(), "bfloat16 has 8 bits"
    assert (restored(layer) - weight).norm() < {"int8": 0.01, "int4": 0.1}[bits] * weight.norm()


def test_four_bits_are_packed_and_unpacked_by_hand():
    q = torch.zeros(64, GROUP, dtype=torch.uint8)
    q[0, 0], q[32, 0], q[5, 1] = 3, 9, 7
    packed = pack(q)
    assert packed.shape == (64, GROUP // 2)
    assert packed.view(-1)[0] == 3 + 9 * 16 and packed.view(-1)[32 + 5] == 7
    assert torch.equal(unpack(packed), q)


@pytest.mark.parametrize("kernels", ["default", "avx2"])
def test_a_processor_whose_kernel_reads_another_order_gives_the_same_product(kernels, tmp_path):
    weight = torch.randn(128, 64, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 64, generator=torch.Generator().manual_seed(1))
    layer = QuantisedLinear("int4", *quantised(weight, "int4"), None)
    save_file({"x": x, "packed": layer.weight, "scale": layer.weight_scale}, tmp_path / "in.safetensors")
    script = (
        "import sys; from safetensors.torch import load_file, save_file\n"
        "from earl.policy.quantised import QuantisedLinear\n"
        "d = load_file(sys.argv[1] + '/in.safetensors')\n"
        "y = QuantisedLinear('int4', d['packed'], d['scale'], None)(d['x'])\n"
        "save_file({'y': y}, sys.argv[1] + '/out.safetensors')"
    )
    where = {**os.environ, "ATEN_CPU_CAPABILITY": kernels}
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, env=where)
    found = load_file(tmp_path / "out.safetensors")["y"]
    assert (found - x @ restored(layer).T).norm() < 0.01 * found.norm()


def logprobs(policy, ids):
    with torch.no_grad():
        return policy(input_ids=ids).logits.float().log_softmax(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("bits", "most"), [("int8", 1e-4), ("int4", 1e-3)])
def test_answers_are_close_and_the_matrices_are_small(ids, dtype, bits, most):
    plain = create_policy(WIDE, ids, seed=0, dtype=dtype)
    small = quantise(create_policy(WIDE, ids, seed=0, dtype=dtype), bits)
    tokens = torch.randint(0, ids.size, (2, 30), generator=torch.Generator().manual_seed(0))
    before, after = logprobs(plain, tokens), logprobs(small, tokens)
    divergence = (before.exp() * (before - after)).sum(-1).mean()
    assert 0 < divergence < most, "nats a token; not 0: something was quantised"
    weight = small.model.layers[0].mlp.up_proj.weight
    assert weight.nbytes == 192 * 128 // (1 if bits == "int8" else 2)
    assert torch.equal(small.lm_head.weight, plain.lm_head.weight)


@pytest.mark.parametrize("bits", BITS)
def test_a_folder_of_quantised_weights_is_the_policy_that_was_quantised(bits, ids, tmp_path):
    policy = create_policy(WIDE, ids, seed=0)
    save_policy(policy, tmp_path / "plain")
    save_quantised(policy, tmp_path / "small", bits)
    stored = open_policy(tmp_path / "small")
    read = open_policy(tmp_path / "plain", quantize=bits)
    for name, tensor in quantise(policy, bits).state_dict().items():
        assert torch.equal(stored.state_dict()[name], tensor), name
        assert torch.equal(read.state_dict()[name], tensor), name
    with pytest.raises(ModelFormatError, match="take the model that it was made from"):
        load_policy(tmp_path / "small")
    other = "int4" if bits == "int8" else "int8"
    with pytest.raises(ConfigError, match=f"holds {bits} weights for CPUs, {other} on cpu was asked for"):
        open_policy(tmp_path / "small", quantize=other)
    with pytest.raises(ConfigError, match=f"holds {bits} weights for CPUs"):
        open_policy(tmp_path / "small", device="cuda")


def test_stored_weights_of_another_type_and_other_quantisers_are_refused(ids, tmp_path):
    save_quantised(create_policy(WIDE, ids, seed=0), tmp_path / "small", "int8")
    config = tmp_path / "small" / "config.json"
    written = json.loads(config.read_text())
    config.write_text(json.dumps(written | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    with pytest.raises(ModelFormatError, match="quantised by 'gptq', which is not read"):
        open_policy(tmp_path / "small")
    (tmp_path / "small" / "config.json").write_text(json.dumps(written))
    file = tmp_path / "small" / "model-00001.safetensors"
    tensors = load_file(file)
    tensors["model.layers.0.mlp.up_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].float()
    save_file(tensors, file)
    with pytest.raises(ModelFormatError, match=r"up_proj.weight.* is of type torch.float32"):
        open_policy(tmp_path / "small")


@pytest.mark.parametrize("padding", ["", " " * 8])
def test_weights_that_begin_anywhere_in_a_file_are_multiplied(padding, ids, tmp_path):
    """torch's kernel ends the process where they do not begin at a multiple of 16 bytes."""
    save_quantised(create_policy(WIDE, ids, seed=0), tmp_path, "int8")
    file = tmp_path / "model-00001.safetensors"
    assert int.from_bytes(file.read_bytes()[:8], "little") % 16 == 8, "mapped as they lie"
    save_file(load_file(file), file, metadata={"padding": padding})
    layers = [m for m in open_policy(tmp_path).modules() if isinstance(m, QuantisedLinear)]
    assert layers and all(layer.weight.data_ptr() % 16 == 0 for layer in layers)
    x = torch.randn(4 * 128 + 1, generator=torch.Generator().manual_seed(0)).bfloat16()[1:].view(4, 128)
    found, expected = layers[0](x).float(), F.linear(x.float(), restored(layers[0]))
    assert (found - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("bits", BITS)
def test_an_edit_with_a_converted_model_is_the_one_with_quantize(bits, model_folder, tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64), (90, 160, 80)).save(tmp_path / "a.png")
    assert main(["convert", str(model_folder), str(tmp_path / "small"), "--quantize", bits]) == 0
    assert json.loads((tmp_path / "small" / "earl.json").read_text())["dtype"] == bits
    words = ["edit", str(tmp_path / "a.png"), "make it blue", "--device", "cpu", "-o"]
    assert main([*words, str(tmp_path / "b.png"), "--model", str(model_folder), "--quantize", bits]) == 0
    assert main([*words, str(tmp_path / "c.png"), "--model", str(tmp_path / "small")]) == 0
    assert Image.open(tmp_path / "b.png").tobytes() == Image.open(tmp_path / "c.png").tobytes()


@pytest.mark.parametrize("bits", BITS)
def test_the_engine_reports_the_likelihood_of_the_quantised_policy(bits, model_folder):
    from plain_likelihood import token_scores_plain

    from earl.records import Grid
    from earl.sampling import Request
    from earl.sampling.native.engine import NativeEngine
    from earl.sequence.kinds import completion_kinds
    from earl.sequence.tokenizer import TextTokenizer

    tokenizer = TextTokenizer.from_folder(model_folder)
    policy = quantise(load_policy(model_folder), bits)
    prompt = (tokenizer.vocabulary.bos, *tokenizer.encode("make it blue"))
    request = Request(prompt, (0, 1), Grid(3, 3), draft=(5,) * 9)
    (group,) = NativeEngine(policy, tokenizer).generate([request], SamplingSettings())
    for done in group:
        ids = torch.tensor([[*prompt, *done.ids]])
        kinds = [0] * len(prompt) + completion_kinds(done.ids, tokenizer, "size").tolist()
        everywhere = torch.ones_like(ids, dtype=torch.bool)
        found = token_scores_plain(policy, ids, everywhere, torch.tensor([kinds]), tokenizer.vocabulary)
        assert (found.logprobs_BT[0, len(prompt) :] - torch.tensor(done.logprobs)).abs().max() < 5e-3


def test_what_cannot_be_quantised_is_one_sentence(ids, monkeypatch):
    policy = create_policy("tiny", ids, seed=0)
    with pytest.raises(ConfigError, match="int8, int4"):
        quantise(policy, "int3")
    with pytest.raises(ConfigError, match="earl convert"):
        quantise(add_lora(policy, 2), "int8")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(MissingExtraError, match=r"earl-edit\[quant\]"):
        quantise(create_policy("tiny", ids, seed=0), "int8", "cuda")


def test_what_torchao_quantised_for_a_gpu_is_sampled_as_it_lies(ids):
    pytest.importorskip("torchao", reason="earl-edit[quant] is not installed")
    from earl.policy.quantised import _by_torchao, is_quantised
    from earl.sampling.native.weights import read_weights

    policy = create_policy("tiny", ids, seed=0)
    _by_torchao(policy.model.layers, "int8", torch.device("cpu"))
    assert is_quantised(policy.model.layers[0].mlp.up_proj)
    read = read_weights(policy, torch.float32, torch.float32).layers[0]
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read.up(x), policy.model.layers[0].mlp.up_proj(x))
