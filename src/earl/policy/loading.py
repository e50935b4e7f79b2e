"""Loading a policy from any known layout, or making one from scratch.

The policy is `transformers.Emu3ForCausalLM` at every size. No remote code is run, only safetensors
are read, every tensor must be there and fit, and dropout is off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Emu3ForCausalLM
from transformers.models.emu3.modeling_emu3 import Emu3RotaryEmbedding

from earl.errors import ConfigError, ModelFormatError
from earl.models.resolve import adapter_base, resolve_base, resolve_model
from earl.models.tensors import parse_dtype
from earl.policy.configs import make_config, read_config
from earl.policy.weights import iterate_weights, take_weights
from earl.sequence.vocabulary import Vocabulary


def load_policy(
    name_or_folder: str | Path,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    revision: str | None = None,
    attention: str = "sdpa",
) -> Emu3ForCausalLM:
    """Load a policy, ready to score and sample (eval mode, no dropout).

    Args:
        name_or_folder: "world", a folder in the released layout, the transformers layout or ours,
            a LoRA adapter's folder or a model folder with `adapter/` (then a peft model over its base is
            returned; a base that has an adapter too is given with that merged), or a hub id.
        dtype: "auto" keeps the stored one; or "float32", "bfloat16", "float16", a torch dtype.
        device: where the weights go.
        revision: of a hub id.
        attention: "sdpa" or "eager" (faster on a CPU for models of a few million parameters).

    Raises:
        ModelNotFoundError: no such model, or files of it are missing.
        ModelFormatError: pickled, truncated, or not fitting weights; not an Emu3 policy.
        ConfigError: unknown dtype.
    """
    folder = resolve_model(name_or_folder, revision, parts=("policy",)).need("policy")
    if (folder / "adapter_config.json").is_file():
        from earl.policy.adapters import attach_adapter, merged

        resolve_base(folder, ("policy",))  # says whose base is missing
        base = load_policy(adapter_base(folder), dtype=dtype, device=device, attention=attention)
        return attach_adapter(merged(base), folder)
    config = read_config(folder)
    config._attn_implementation = attention
    wanted = parse_dtype(dtype)
    try:
        with torch.device("meta"):  # without memory of its own
            model = Emu3ForCausalLM(config)
    except Exception as error:  # transformers fails in many ways on odd values
        raise ModelFormatError(
            f"{folder / 'config.json'}: its values do not make a model ({error!r})"
        ) from error
    stored = iterate_weights(folder, device)
    found = {name: tensor.to(wanted or tensor.dtype) for name, tensor in stored}
    _fill(model, found, folder, torch.device(device))
    local = Path(name_or_folder).expanduser()
    # What a LoRA adapter made on this model will name as its base.
    model.name_or_path = str(local.resolve() if local.is_dir() else name_or_folder)
    return model


def _fill(model: Emu3ForCausalLM, found: dict[str, torch.Tensor], folder: Path, device: torch.device) -> None:
    """Give a model on the meta device the tensors that were read, and put its rotary tables on `device`."""
    config: Any = model.config
    take_weights(model, found, folder)
    model.tie_weights()
    # The rotary tables are not weights: they are made here on the real device, always in float32.
    model.model.rotary_emb = Emu3RotaryEmbedding(config=config).to(device)
    model.config.dtype = next(iter(found.values())).dtype
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model.eval()


def create_policy(
    size: str | Mapping[str, Any],
    vocabulary: Vocabulary,
    seed: int,
    *,
    dtype: torch.dtype = torch.float32,
    attention: str = "sdpa",
) -> Emu3ForCausalLM:
    """A new policy with random weights, the same for the same seed.

    Matrices that write into the residual stream start smaller by sqrt(2 x layers), so that the
    stream's size at the start does not grow with depth.

    Args:
        size: a name in `SIZES`, or keys as there (missing ones as in "small").
        vocabulary: gives the number of ids, and the pad, bos, eos ids.
        seed: any integer.

    Raises:
        ConfigError: unknown size or key, heads that do not divide.
    """
    config = make_config(size, vocabulary)
    config._attn_implementation = attention
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Emu3ForCausalLM(config)
        shrink = 1.0 / math.sqrt(2 * config.num_hidden_layers)
        with torch.no_grad():
            for layer in model.model.layers:
                for linear in (layer.self_attn.o_proj, layer.mlp.down_proj):
                    nn.init.normal_(linear.weight, std=config.initializer_range * shrink)
    model.to(dtype=dtype)  # type: ignore[call-arg]
    model.eval()
    return model


@torch.no_grad()
def warm_start_visual(
    model: Emu3ForCausalLM, features_VC: torch.Tensor, vocabulary: Vocabulary, *, seed: int = 0
) -> None:
    """Start visual tokens that look alike with embeddings that are alike.

    To the input and head rows of the visual ids is added one seeded random projection of smooth
    functions of their codes' features: the features themselves (the codebook's vectors, say) and
    random Fourier waves of them (Rahimi & Recht, 2007), whose inner products fall with distance.
    The projection is brought to a root mean square of 0.02, which the other rows start with; what
    was random stays, so that codes that look alike can still be told apart.

    Args:
        features_VC: float (V, C), one row per code, V = the vocabulary's codebook.

    Raises:
        ConfigError: the number of rows is not the codebook's.
    """
    embedding_VC: torch.Tensor = model.model.embed_tokens.weight
    head_VC: torch.Tensor = model.lm_head.weight
    rows, first = vocabulary.codebook_size, vocabulary.first_visual
    if features_VC.ndim != 2 or features_VC.shape[0] != rows:
        raise ConfigError(
            f"features of shape {tuple(features_VC.shape)} given, expected ({rows}, C): a row per code"
        )
    features = features_VC.detach().to("cpu", torch.float32)
    features = features - features.mean(0)
    features = features / features.square().mean(0).sqrt().clamp_min(1e-12)  # each feature counts alike
    generator = torch.Generator().manual_seed(seed)
    waves = features @ (1.5 * torch.randn(features.shape[1], 64, generator=generator))
    phases = 2 * torch.pi * torch.rand(64, generator=generator)
    features = torch.cat([features, torch.cos(waves + phases)], dim=1)
    features = features - features.mean(0)
    projection = torch.randn(features.shape[1], embedding_VC.shape[1], generator=generator)
    projected = features @ projection
    projected = projected * (0.02 / projected.square().mean().sqrt().clamp_min(1e-12))
    for weight in (embedding_VC, head_VC):
        weight[first : first + rows] += projected.to(weight.device, weight.dtype)
