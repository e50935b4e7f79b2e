"""Codes that look alike learn together: gradients of their embeddings are shared along the codebook.

A policy from scratch learns every code by itself. Codes of backgrounds come in every image, those
of solids in one of a hundred, and what the policy reads in an image is worst where its codes are
rare. The codebook knows which codes decode to much the same pixels. So before each update the
gradients of the visual embeddings are averaged over near codes; AdamW's step for a rare code then
follows its kin as well. What each code alone has to say stays in, as `own`.

What is to be predicted can be shared as well, `targets`: see `earl.policy.likelihood.NeighbourSmoothing`.

Axes: K codes, D code dimensions, C hidden channels, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from earl.config.sections import Kinship
from earl.errors import ConfigError
from earl.policy import NeighbourSmoothing, policy_of
from earl.training.assemble import Parts, read_codebook

_NEAR = 8  # the neighbour whose median distance is the unit of `width`


def set_kinship(parts: Parts, settings: Kinship | None) -> NeighbourSmoothing | None:
    """Do what a recipe's `[kinship]` asks for: share the gradients of embeddings from now on, and give
    what likelihoods are to share, if anything.

    Raises:
        ConfigError: there is no vision tokenizer; the embeddings are frozen, as under LoRA.
    """
    if settings is None:
        return None
    if parts.vision_path is None:
        raise ConfigError("[kinship] needs model.vision_tokenizer: its codebook says which codes are near")
    codebook = read_codebook(parts.vision_path)
    if settings.embeddings:
        share_gradients(parts.policy, codebook, parts.tokenizer.vocabulary.first_visual, settings)
    return kin_of(codebook, settings)


def kinship_matrix(codebook_KD: Tensor, settings: Kinship) -> Tensor:
    """How much each code's gradient moves every code's embedding: sparse float32 (K, K).

    A Gaussian of the distance in the codebook over the nearest `neighbours`, made symmetric and
    divided by the square roots of its row sums on both sides, so that no direction is made larger;
    then mixed with the identity in the proportion 1 : own.
    """
    codes = len(codebook_KD)
    near_Kn, ids_Kn, unit = _neighbours(codebook_KD, settings)
    count = ids_Kn.shape[1]
    weights_Kn = torch.exp(-0.5 * (near_Kn / (settings.width * unit)) ** 2)
    rows = torch.arange(codes, device=ids_Kn.device).repeat_interleave(count)
    places = torch.stack([rows, ids_Kn.flatten()])
    both = torch.cat([places, places.flip(0)], dim=1)
    kernel = _sparse(both, weights_Kn.flatten().repeat(2) / 2, codes)
    (row, column), values = kernel.indices(), kernel.values()
    scale_K = torch.zeros(codes, device=values.device).index_add_(0, row, values).rsqrt()
    values = values * scale_K[row] * scale_K[column] + settings.own * (row == column)
    values = values / (1 + settings.own)
    return _sparse(kernel.indices(), values, codes)


def kin_of(codebook_KD: Tensor, settings: Kinship) -> NeighbourSmoothing | None:
    """The codes near each code with the Gaussian's logarithm, for likelihoods; None where
    `settings.targets` is 0."""
    if not settings.targets:
        return None
    near_Kn, ids_Kn, unit = _neighbours(codebook_KD, settings)
    return NeighbourSmoothing(ids_Kn, -0.5 * (near_Kn / (settings.width * unit)) ** 2, settings.targets)


def share_gradients(policy: Any, codebook_KD: Tensor, first_visual: int, settings: Kinship) -> None:
    """From now on gradients of the visual embeddings, and of the head's visual rows, are shared.

    Raises:
        ConfigError: the embeddings are frozen, as under LoRA.
    """
    model = policy_of(policy)
    tables = {id(w): w for w in (model.model.embed_tokens.weight, model.lm_head.weight)}.values()
    if not all(weight.requires_grad for weight in tables):
        raise ConfigError(
            "[kinship] shares gradients of embeddings, and here they are frozen; set kinship.embeddings=false"
        )
    kin_KK = kinship_matrix(codebook_KD, settings).to(model.lm_head.weight.device)
    visual = slice(first_visual, first_visual + len(codebook_KD))

    def share(gradient_VC: Tensor) -> Tensor:
        shared_VC = gradient_VC.clone()
        shared_VC[visual] = torch.sparse.mm(kin_KK, gradient_VC[visual])
        return shared_VC

    for weight in tables:
        weight.register_hook(share)


def _neighbours(codebook_KD: Tensor, settings: Kinship) -> tuple[Tensor, Tensor, Tensor]:
    """Distances and ids of the nearest codes, a code itself first, both (K, n), and the unit of `width`."""
    count = min(settings.neighbours + 1, len(codebook_KD))
    near_Kn, ids_Kn = torch.cdist(codebook_KD.float(), codebook_KD.float()).topk(count, largest=False)
    return near_Kn, ids_Kn, near_Kn[:, min(_NEAR, count - 1)].median().clamp(min=1e-12)


def _sparse(places: Tensor, values: Tensor, codes: int) -> Tensor:
    return torch.sparse_coo_tensor(places, values, (codes, codes), check_invariants=False).coalesce()
