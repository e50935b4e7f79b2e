"""Compiled parts of a policy beside the plain ones: hidden states and gradients."""

import shutil
from typing import Any

import pytest
import torch

from earl.policy.compiled import compile_parts
from earl.policy.loading import create_policy
from earl.policy.shared import shared_hidden_states

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")


def test_states_and_gradients_are_the_plain_ones(ids: Any) -> None:
    size = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 48, "num_attention_heads": 4}
    ids_PL = torch.tensor([[3, 9, 4, 1], [7, 2, 0, 0]])
    present_PL = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]], dtype=torch.bool)
    ids_BT = torch.tensor([[5, 6, 8], [1, 2, 3], [4, 4, 9]])
    weights_BTC = torch.randn(3, 3, 32, generator=torch.Generator().manual_seed(1))
    results = []
    for compiled in (False, True):
        policy = create_policy(size | {"num_key_value_heads": 2}, ids, seed=0, attention="eager")
        if compiled:
            compile_parts(policy)
        states_BTC = shared_hidden_states(policy, ids_BT, ids_PL, present_PL, torch.tensor([0, 0, 1]))
        (states_BTC * weights_BTC).sum().backward()
        gradients = [p.grad for p in policy.model.parameters()]
        results.append([states_BTC.detach(), *gradients])
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
