"""Smoothing of gradients over neighbours in the codebook.

A policy from scratch learns every code by itself. Codes of backgrounds come in every image, those of
solids in one of a hundred, and rare codes are read worst. Codes that lie near each other in the codebook
decode to much the same pixels. So before each update the gradients of the visual embeddings are averaged
over near codes, and AdamW's step for a rare code follows its neighbours as well. A code's own gradient
keeps a weight of its own.

With `targets` the gradient of the likelihood is shared as well (`earl.policy.likelihood.NeighbourSmoothing`).

Axes: K codes, n neighbours, D code dimensions, C hidden channels, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from earl.config.sections import SmoothingSettings
from earl.errors import ConfigError
from earl.policy.likelihood import NeighbourSmoothing, policy_of
from earl.training.parts import Parts, read_codebook

_NEAR = 8  # the neighbour whose median distance is the unit of `_WIDTH`
_WIDTH = 0.7  # of the Gaussian
_OWN = 0.15  # weight of a code's own gradient beside the shared one


def smooth_gradients(parts: Parts, settings: SmoothingSettings | None) -> NeighbourSmoothing | None:
    """Smooth the gradients of the visual embeddings from now on, where they are trained; returns the
    neighbours that likelihoods share gradients with, None where `targets` is 0.

    Raises:
        ConfigError: there is no vision tokenizer.
    """
    if settings is None:
        return None
    if parts.vision_path is None:
        raise ConfigError(
            "[neighbour_smoothing] needs model.vision_tokenizer: its codebook says which codes are near"
        )
    codebook = read_codebook(parts.vision_path)
    smooth_embeddings(parts.policy, codebook, parts.tokenizer.vocabulary.first_visual, settings)
    return target_neighbours(codebook, settings)


def smoothing_matrix(codebook_KD: Tensor, settings: SmoothingSettings) -> Tensor:
    """Weights by which each code's gradient moves every code's embedding: sparse float32 (K, K).

    A Gaussian of the distance in the codebook over the nearest `neighbours`, made symmetric and
    divided by the square roots of its row sums on both sides, so that no direction is made larger;
    then mixed with the identity in the proportion 1 : `_OWN`.
    """
    codes = len(codebook_KD)
    near_Kn, ids_Kn, unit = _neighbours(codebook_KD, settings)
    count = ids_Kn.shape[1]
    weights_Kn = torch.exp(-0.5 * (near_Kn / (_WIDTH * unit)) ** 2)
    rows = torch.arange(codes, device=ids_Kn.device).repeat_interleave(count)
    places = torch.stack([rows, ids_Kn.flatten()])
    both = torch.cat([places, places.flip(0)], dim=1)
    kernel = _sparse(both, weights_Kn.flatten().repeat(2) / 2, codes)
    (row, column), values = kernel.indices(), kernel.values()
    scale_K = torch.zeros(codes, device=values.device).index_add_(0, row, values).rsqrt()
    values = values * scale_K[row] * scale_K[column] + _OWN * (row == column)
    values = values / (1 + _OWN)
    return _sparse(kernel.indices(), values, codes)


def target_neighbours(codebook_KD: Tensor, settings: SmoothingSettings) -> NeighbourSmoothing | None:
    """The codes near each code with the Gaussian's logarithm, for likelihoods; None where
    `settings.targets` is 0."""
    if not settings.targets:
        return None
    near_Kn, ids_Kn, unit = _neighbours(codebook_KD, settings)
    return NeighbourSmoothing(ids_Kn, -0.5 * (near_Kn / (_WIDTH * unit)) ** 2, settings.targets)


def smooth_embeddings(
    policy: Any, codebook_KD: Tensor, first_visual: int, settings: SmoothingSettings
) -> None:
    """From now on gradients of the visual embeddings, and of the head's visual rows, are smoothed.

    Frozen ones, as under LoRA, have no gradients and are left out.
    """
    model = policy_of(policy)
    tables = {id(w): w for w in (model.model.embed_tokens.weight, model.lm_head.weight)}.values()
    matrix_KK = smoothing_matrix(codebook_KD, settings).to(model.lm_head.weight.device)
    visual = slice(first_visual, first_visual + len(codebook_KD))

    def smooth(gradient_VC: Tensor) -> Tensor:
        smoothed_VC = gradient_VC.clone()
        smoothed_VC[visual] = torch.sparse.mm(matrix_KK, gradient_VC[visual])
        return smoothed_VC

    for weight in tables:
        if weight.requires_grad:
            weight.register_hook(smooth)


def _neighbours(codebook_KD: Tensor, settings: SmoothingSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Distances and ids of the nearest codes, a code itself first, both (K, n), and the unit of `_WIDTH`."""
    count = min(settings.neighbours + 1, len(codebook_KD))
    near_Kn, ids_Kn = torch.cdist(codebook_KD.float(), codebook_KD.float()).topk(count, largest=False)
    return near_Kn, ids_Kn, near_Kn[:, min(_NEAR, count - 1)].median().clamp(min=1e-12)


def _sparse(places: Tensor, values: Tensor, codes: int) -> Tensor:
    return torch.sparse_coo_tensor(places, values, (codes, codes), check_invariants=False).coalesce()
