"""Drawing ids from logits, with noise that depends on (seed, position, id) alone.

Each allowed id gets the noise -log(E), E exponential, made by hashing (seed, position, id); the id
with the largest logit + noise is an exact draw from the softmax (Gumbel-max). No generator has a
state, so a sample does not depend on what else is in the batch. A last-bit difference in a logit changes
the draw only where two candidates are that close.

Axes: R rows, V columns of one kind, K candidates.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from earl.config import SamplingSettings

_NOISE_SPREAD = 26.0  # between the largest noise there is, -log(2**-33), and the smallest, 25.7
_LEAST_EXPONENT = -80.0  # e to it is 1.8e-35, nothing beside 1 and still an ordinary float32


def stream_keys(seeds_R: list[int], positions_R: list[int]) -> Tensor:
    """Two 32-bit words per (seed, position): int32 (R, 2). SplitMix64 on both."""
    with np.errstate(over="ignore"):
        words = _mix64(np.asarray(seeds_R, dtype=np.uint64))
        words = _mix64(words ^ (np.asarray(positions_R, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03)))
    return torch.from_numpy(words.view(np.int32).reshape(-1, 2).copy())


def _mix64(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    words = words + np.uint64(0x9E3779B97F4A7C15)
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def gumbel_noise(keys_R2: Tensor, ids_RK: Tensor) -> Tensor:
    """Standard Gumbel noise for each (key, id): float32 (R, K).

    Args:
        keys_R2: int32 (R, 2) from `stream_keys`, on the ids' device.
        ids_RK: int32 (R, K) or (1, K), vocabulary ids.
    """
    words = _hash_on_cpu(keys_R2, ids_RK) if ids_RK.device.type == "cpu" else _hash(keys_R2, ids_RK)
    # Unsigned 32 bits in (0, 1): small values keep their full relative precision as float32, and
    # the small ones become the smallest exponentials, which decide the draw.
    uniform = words.to(torch.float32).mul_(2.0**-32)
    uniform = torch.where(words < 0, uniform + 1.0, uniform).add_(2.0**-33).clamp_max_(1.0 - 2.0**-24)
    return torch.log1p(uniform.neg_()).neg_().log_().neg_()


def _hash(keys_R2: Tensor, ids_RK: Tensor) -> Tensor:
    """32 bits for each (key, id), int32 (R, K)."""
    return _mix32(_mix32(ids_RK ^ keys_R2[:, :1]) + keys_R2[:, 1:])


def _hash_on_cpu(keys_R2: Tensor, ids_RK: Tensor) -> Tensor:
    """The same bits by numpy, whose unsigned words need no masks and whose calls cost less."""
    keys, ids = keys_R2.numpy().view(np.uint32), ids_RK.numpy().view(np.uint32)
    words = _mix32_unsigned(ids ^ keys[:, :1])
    words += keys[:, 1:]
    return torch.from_numpy(_mix32_unsigned(words).view(np.int32)).to(ids_RK.device)


def _mix32_unsigned(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """`_mix32`, in place."""
    words ^= words >> np.uint32(16)
    words *= np.uint32(0x7FEB352D)
    words ^= words >> np.uint32(15)
    words *= np.uint32(0x846CA68B)
    words ^= words >> np.uint32(16)
    return words


def _mix32(words: Tensor) -> Tensor:
    """A bijection of 32-bit words in which every bit depends on every other (lowbias32).

    int32 arithmetic wraps; the masks turn arithmetic shifts into logical ones.
    """
    words = words ^ ((words >> 16) & 0xFFFF)
    words = words * 0x7FEB352D
    words = words ^ ((words >> 15) & 0x1FFFF)
    words = words * (0x846CA68B - (1 << 32))
    return words ^ ((words >> 16) & 0xFFFF)


def draw(
    logits_RV: Tensor, keys_R2: Tensor, sampling: SamplingSettings, first_id: int
) -> tuple[Tensor, Tensor]:
    """Draw one id per row.

    Args:
        logits_RV: float32 (R, V), the columns that the grammar allows.
        keys_R2: int32 (R, 2) from `stream_keys`.
        sampling: temperature, truncation, greedy.
        first_id: the vocabulary id of column 0.

    Returns:
        ids, int64 (R,), and their log-probabilities, float32 (R,): at that temperature over all
        allowed columns, before top-k and top-p cut any off (what training scores).
    """
    scaled_RV = logits_RV / sampling.temperature if sampling.temperature != 1.0 else logits_RV
    top_R1 = scaled_RV.amax(-1, keepdim=True)
    if sampling.greedy:
        picked_R = scaled_RV.argmax(-1)
    else:
        picked_R = _gumbel_max(scaled_RV, top_R1, keys_R2, sampling, first_id)
    logprobs_R = scaled_RV.gather(1, picked_R[:, None])[:, 0] - log_sum_exp(scaled_RV, top_R1)
    return picked_R + first_id, logprobs_R


def log_sum_exp(logits_RV: Tensor, top_R1: Tensor) -> Tensor:
    """`logits.logsumexp(-1)`, float32 (R,), given the largest of each row.

    Processors take very long over powers that are too small for an ordinary float32 (below 1.2e-38), of
    which a sharp distribution has many; here they are as small as the sum can no longer notice.
    """
    return (logits_RV - top_R1).clamp_min_(_LEAST_EXPONENT).exp_().sum(-1).log_() + top_R1[:, 0]


def guide(logits_RV: Tensor, negative_RV: Tensor, guidance: float) -> Tensor:
    """Log-weights negative + guidance * (asked - negative), on log-probabilities over the columns given.

    Over all columns or some, the distribution over these is the same: each row only shifts by a constant.

    Args:
        logits_RV: float32 (R, V), logits after the prompt that is asked for.
        negative_RV: float32 (R, V), logits after the negative prompt.
        guidance: 1 gives the distribution of `logits_RV`, more leads further away from `negative_RV`.

    Source: classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598), in the form of
    transformers' `UnbatchedClassifierFreeGuidanceLogitsProcessor`.
    """
    asked_RV, negative_RV = logits_RV.log_softmax(-1), negative_RV.log_softmax(-1)
    return negative_RV + guidance * (asked_RV - negative_RV)


def _gumbel_max(
    scaled_RV: Tensor, top_R1: Tensor, keys_R2: Tensor, sampling: SamplingSettings, first_id: int
) -> Tensor:
    width = scaled_RV.shape[1]
    keep = min(sampling.top_k or width, width)
    if keep == width and sampling.top_p >= 1.0:
        on_cpu = scaled_RV.device.type == "cpu"  # elsewhere to find them would cost a wait for the device
        likely_R = _among_likely(scaled_RV, top_R1, keys_R2, first_id) if on_cpu else None
        return _among_all(scaled_RV, keys_R2, first_id) if likely_R is None else likely_R
    best_RK, columns_RK = scaled_RV.topk(keep, dim=-1)
    if sampling.top_p < 1.0:
        p_RK = best_RK.softmax(-1)
        before_RK = p_RK.cumsum(-1) - p_RK  # the likeliest has 0 before it and always stays
        best_RK = best_RK.masked_fill(before_RK >= sampling.top_p, float("-inf"))
    noise_RK = gumbel_noise(keys_R2, columns_RK.to(torch.int32) + first_id)
    return columns_RK.gather(1, (best_RK + noise_RK).argmax(-1, keepdim=True))[:, 0]


def _among_all(scaled_RV: Tensor, keys_R2: Tensor, first_id: int) -> Tensor:
    width = scaled_RV.shape[1]
    ids = torch.arange(first_id, first_id + width, dtype=torch.int32, device=scaled_RV.device)
    return (scaled_RV + gumbel_noise(keys_R2, ids[None])).argmax(-1)


def _among_likely(scaled_RV: Tensor, top_R1: Tensor, keys_R2: Tensor, first_id: int) -> Tensor | None:
    """The same draw, noise being made only for columns that it could bring to the front.

    None where those are a quarter of the columns or more, which then are faster together.
    """
    R, V = scaled_RV.shape
    row_N, column_N = (scaled_RV >= top_R1 - _NOISE_SPREAD).nonzero().unbind(1)
    if len(row_N) > R * V // 4:
        return None
    noise_N = gumbel_noise(keys_R2[row_N], column_N[:, None].to(torch.int32) + first_id)[:, 0]
    score_N = scaled_RV[row_N, column_N] + noise_N
    best_R = score_N.new_full((R,), float("-inf")).scatter_reduce_(0, row_N, score_N, "amax")
    first_N = score_N == best_R[row_N]  # of equals the first column, as argmax has it
    picked_R = column_N.new_full((R,), V).scatter_reduce_(0, row_N[first_N], column_N[first_N], "amin")
    return None if bool((picked_R == V).any()) else picked_R  # a row of nan: as among all
