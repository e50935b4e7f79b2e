"""Our Muon: torch's own on matrices, flattened kernels beyond."""

import torch
from torch import nn

from earl.config.sections import Optimiser
from earl.training.muon import Muon, orthogonalise
from earl.training.optimisers import create_optimisers


def test_equals_torch_on_matrices():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(24, 40)), nn.Parameter(torch.randn(40, 24))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    one = Muon(ours, lr=1e-2, weight_decay=0.1, dtype=torch.bfloat16)  # as torch computes it
    other = torch.optim.Muon(theirs, lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for step in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step))
            b.grad = a.grad.clone()
        one.step()
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-5)


def test_a_kernel_is_its_flattened_matrix():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(16, 8, 3, 3))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    kernel.grad = torch.randn(16, 8, 3, 3)
    matrix.grad = kernel.grad.flatten(1).clone()
    Muon([kernel], lr=1e-2).step()
    Muon([matrix], lr=1e-2).step()
    assert torch.equal(kernel.flatten(1), matrix)


def test_singular_values_become_alike():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalise(torch.randn(20, 50)).float())
    assert values.min() > 0.5 and values.max() < 1.3


def test_first_and_last_layers_stay_with_adamw():
    module = nn.ModuleDict(
        {
            "conv_in": nn.Conv2d(3, 16, 3),
            "hidden": nn.Conv2d(16, 16, 3),
            "conv_out": nn.Conv2d(16, 3, 3),
            "lm_head": nn.Linear(16, 40, bias=False),
        }
    )
    settings = Optimiser(name="muon", learning_rate=1e-3, muon_learning_rate=1e-3)
    adamw, muon = create_optimisers(module.named_parameters(), settings)
    assert [p is module["hidden"].weight for p in muon.param_groups[0]["params"]] == [True]
    assert sum(len(g["params"]) for g in adamw.param_groups) == 6
