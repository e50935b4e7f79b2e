"""Makes the world's policy deeper, function kept: after some layers, a copy that adds nothing yet.

    python recipes/world/add_layers.py START OUT --layers 9

A new layer has the weights of the one before it, except that its two output projections are zero, so that
the residual stream passes it unchanged until it is trained.

Source: function-preserving growth with zero output projections, as in Net2Net, Chen et al. 2016
(arXiv 1511.05641), and Fixup-like initialisations.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

from earl.config.stages import load_stage
from earl.training.parts import assemble_policy, save_model


def add_layers(policy: Any, after: list[int]) -> None:
    """Insert a layer that changes nothing after each of the numbered layers (from 0), in place."""
    grown: list[nn.Module] = []
    for number, layer in enumerate(policy.model.layers):
        grown.append(layer)
        if number in after:
            new = copy.deepcopy(layer)
            for projection in (new.self_attn.o_proj, new.mlp.down_proj):
                nn.init.zeros_(projection.weight)
            grown.append(new)
    for number, layer in enumerate(grown):
        layer.self_attn.layer_idx = number
    policy.model.layers = nn.ModuleList(grown)
    policy.config.num_hidden_layers = len(grown)
    if getattr(policy.config, "layer_types", None):
        policy.config.layer_types = ["full_attention"] * len(grown)


def spread(have: int, want: int) -> list[int]:
    """After which of `have` layers a new one comes, `want` in all: evenly, and not before the second."""
    if not have <= want <= 2 * have:
        raise SystemExit(f"error: the model has {have} layers; --layers takes {have} to {2 * have}")
    new = want - have
    return [round((number + 1) * have / new) - 1 for number in range(new)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("start")
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, default=9, help="in all; new ones are spread evenly")
    options = parser.parse_args()
    recipe = load_stage(
        Path(__file__).parent / "language.toml", [f"model.start={options.start}", f"run.folder={options.out}"]
    )
    parts = assemble_policy(recipe, torch.device("cpu"))  # type: ignore[arg-type]
    ids = torch.randint(0, 2000, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = parts.policy.eval()(ids).logits
        add_layers(parts.policy, spread(parts.policy.config.num_hidden_layers, options.layers))
        after = parts.policy(ids).logits
    if not torch.equal(before, after):
        raise SystemExit("error: the deeper policy computes something else")
    save_model(parts, options.out, recipe, step=0)
    print(f"{parts.policy.config.num_hidden_layers} layers, the same logits")


if __name__ == "__main__":
    main()
