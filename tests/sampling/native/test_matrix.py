"""oneDNN's packed matrices where torch has them, plain ones where it has not: the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from earl.config import SamplingSettings
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.engine import NativeEngine
from earl.sampling.native.matrix import PackedMatrix, PlainMatrix, can_pack
from earl.sampling.native.weights import read_weights

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.fixture(params=["as this torch can", "without oneDNN"])
def packs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable]:
    """The probe on this machine, and on one whose torch was built without oneDNN."""
    can_pack.cache_clear()
    if request.param == "without oneDNN":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert not can_pack(torch.float32) and not can_pack(torch.bfloat16)
    yield can_pack
    can_pack.cache_clear()


def agrees(found: torch.Tensor, wanted: torch.Tensor, dtype: torch.dtype) -> bool:
    tolerance = 1e-5 if dtype == torch.float32 else 5e-2
    return found.dtype == dtype and torch.allclose(found.double(), wanted, atol=tolerance, rtol=tolerance)


@DTYPES
@pytest.mark.parametrize("bias", [False, True])
def test_each_form_multiplies_right(dtype, bias, packs):
    generator = torch.Generator().manual_seed(0)
    weight = (torch.randn(72, 48, generator=generator) / 7).to(dtype)
    added = torch.randn(72, generator=generator).to(dtype) if bias else None
    forms = [PlainMatrix, PackedMatrix] if packs(dtype) else [PlainMatrix]
    for rows in (1, 7, 64, 65, 130):
        x = torch.randn(rows, 48, generator=generator).to(dtype)
        other = torch.randn(rows, 72, generator=generator).to(dtype)
        wanted = x.double() @ weight.double().T + (0 if added is None else added.double())
        for matrix in [form(weight, added) for form in forms]:
            assert agrees(matrix(x), wanted, dtype)
            assert agrees(matrix.silu(x), wanted * wanted.sigmoid(), dtype)
            assert agrees(matrix.times(x, other), wanted * other.double(), dtype)


@DTYPES
def test_a_policy_is_read_in_the_form_that_the_probe_allows(dtype, packs, policy):
    weights = read_weights(policy, dtype, torch.float32)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    for layer, read in zip(policy.model.layers, weights.layers, strict=True):
        matrices = (*read.qkv, read.out, read.gate, read.up, read.down)
        assert {type(matrix) for matrix in matrices} == {PackedMatrix if packs(dtype) else PlainMatrix}
        wanted = layer.mlp.gate_proj.weight.detach().to(dtype).double()
        assert agrees(read.gate(x), x.double() @ wanted.T, dtype)


def test_sampling_is_the_same_without_packing(packs, policy, tokenizer, prompt_of):
    """Compared with the whole vocabulary's logits of `transformers`, which knows no packing."""
    prompt = prompt_of(0)
    requests = [Request(prompt, (3, 4), Grid(3, 4), "direct")]
    (group,) = NativeEngine(policy, tokenizer).generate(requests, SamplingSettings(greedy=True))
    first, size = tokenizer.vocabulary.first_visual, tokenizer.vocabulary.size
    for completion in group:
        ids = torch.tensor([[*prompt, *completion.ids]])
        with torch.no_grad():
            logits = policy(ids).logits[0, len(prompt) - 1 : -1]
        visual = [at for at, token in enumerate(completion.ids) if token >= first]
        likeliest = logits[visual, first:size].argmax(dim=1) + first
        assert likeliest.tolist() == [completion.ids[at] for at in visual] and len(visual) == 12


@pytest.mark.parametrize("fault", ["missing", "refuses", "wrong"])
def test_the_probe_trusts_no_operator_that_it_has_not_seen_work(fault, monkeypatch):
    def refuses(*_):
        raise RuntimeError("could not create a primitive")

    class Operators:
        """Stands in for torch.ops.mkldnn."""

        _reorder_linear_weight = staticmethod(lambda weight, rows: weight)
        _linear_pointwise = staticmethod(refuses)

    if fault == "missing":
        del Operators._linear_pointwise
    if fault == "wrong":
        Operators._linear_pointwise = lambda x, *_: torch.zeros(len(x), 16)
        Operators._linear_pointwise.binary = lambda x, *_: torch.zeros(len(x), 16)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops, "mkldnn", Operators())
    can_pack.cache_clear()
    assert not can_pack(torch.float32)
    can_pack.cache_clear()
