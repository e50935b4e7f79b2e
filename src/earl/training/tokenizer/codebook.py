"""Codebook in training: moving averages of the latents that chose each code.

Starts from k-means over recent latents, follows them by an exponential moving average, and
moves codes that nothing chooses onto latents that occur (VQ-VAE, arXiv 1711.00937, appendix
A.1; re-seeding as in Jukebox, arXiv 2005.00341). No gradient reaches it.

Axes: N latents, K codes, D code dimension.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from earl.vision.still import nearest_rows

_ROUNDS = 20  # of k-means at the start


class EMACodebook(nn.Module):
    """Codes, how much each is used, and a store of recent latents to seed new ones from.

    Everything is a buffer, so a checkpoint holds it. Random draws come from the seed and the
    number of updates so far: a resumed run draws what an uninterrupted one would.

    Args:
        size: number of codes K.
        dim: their dimension D.
        decay: share of the old average kept at each update, in (0, 1).
        reseed_below: a code is dead when its average use falls below this share of uniform use.
        reseed_every: updates between two looks for dead codes; 0 never looks.
        store: recent latents kept, as a multiple of K.
        seed: of the k-means start and the re-seeding.
    """

    codes_KD: Tensor
    use_K: Tensor
    sums_KD: Tensor
    recent_ND: Tensor
    counters: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        decay: float = 0.99,
        reseed_below: float = 0.03,
        reseed_every: int = 20,
        store: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.decay, self.reseed_below, self.reseed_every, self.seed = decay, reseed_below, reseed_every, seed
        self.register_buffer("codes_KD", torch.zeros(size, dim))
        self.register_buffer("use_K", torch.zeros(size))  # moving average of latents per update
        self.register_buffer("sums_KD", torch.zeros(size, dim))  # moving average of their sums
        self.register_buffer("recent_ND", torch.zeros(store * size, dim))
        # started (0/1), updates, next free row of the store, rows filled
        self.register_buffer("counters", torch.zeros(4, dtype=torch.int64))

    @property
    def started(self) -> bool:
        """Whether k-means has run."""
        return bool(self.counters[0])

    @property
    def updates(self) -> int:
        return int(self.counters[1])

    @torch.no_grad()
    def remember(self, latents_ND: Tensor) -> None:
        """Put latents in the ring store (the newest, if there are more than it holds)."""
        rows = self.recent_ND.shape[0]
        latents_ND = latents_ND[-rows:]
        first, count = int(self.counters[2]), latents_ND.shape[0]
        places = (torch.arange(count, device=latents_ND.device) + first) % rows
        self.recent_ND[places] = latents_ND.to(self.recent_ND)
        self.counters[2] = (first + count) % rows
        self.counters[3] = min(rows, int(self.counters[3]) + count)

    @torch.no_grad()
    def start(self) -> None:
        """Set the codes by k-means over the store, use as found there."""
        points_ND = self.recent_ND[: int(self.counters[3])]
        K = self.codes_KD.shape[0]
        codes_KD = self._draw(K)
        for _ in range(_ROUNDS):
            use_K, sums_KD = _sums(nearest_rows(codes_KD, points_ND), points_ND, K)
            found_K = use_K > 0
            codes_KD[found_K] = sums_KD[found_K] / use_K[found_K, None]
            if not found_K.all():
                codes_KD[~found_K] = self._draw(int((~found_K).sum()))
        use_K, sums_KD = _sums(nearest_rows(codes_KD, points_ND), points_ND, K)
        use_K = use_K.clamp(min=1e-3)
        self.codes_KD.copy_(codes_KD)
        self.use_K.copy_(use_K)
        self.sums_KD.copy_(codes_KD * use_K[:, None])
        self.counters[0] = 1
        self._same_on_all_ranks()

    @torch.no_grad()
    def update(self, codes_N: Tensor, latents_ND: Tensor) -> None:
        """One step of the moving averages: `new = decay * old + (1 - decay) * this batch`.

        Args:
            codes_N: int64 (N,), the code each latent chose.
            latents_ND: float32 (N, D).
        """
        K = self.codes_KD.shape[0]
        use_K, sums_KD = _sums(codes_N, latents_ND, K)
        if _ranks() > 1:
            dist.all_reduce(use_K)
            dist.all_reduce(sums_KD)
        self.use_K.lerp_(use_K, 1 - self.decay)
        self.sums_KD.lerp_(sums_KD, 1 - self.decay)
        # a code that nothing chose keeps its place: sum and use shrink alike
        self.codes_KD.copy_(self.sums_KD / self.use_K.clamp(min=1e-6)[:, None])
        self.counters[1] += 1
        if self.reseed_every and self.updates % self.reseed_every == 0:
            self.reseed()

    @torch.no_grad()
    def reseed(self) -> int:
        """Move dead codes onto recent latents and reset their use to the mean; returns how many."""
        dead_K = self.use_K < self.reseed_below * self.use_K.mean()
        count = int(dead_K.sum())
        if count:
            uniform = self.use_K.mean()
            self.codes_KD[dead_K] = self._draw(count)
            self.use_K[dead_K] = uniform
            self.sums_KD[dead_K] = self.codes_KD[dead_K] * uniform
            self._same_on_all_ranks()
        return count

    def _draw(self, count: int) -> Tensor:
        """`count` rows of the store, without replacement where it holds enough, slightly spread."""
        filled = int(self.counters[3])
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.updates)
        order = torch.randperm(filled, generator=generator)
        picks = order[torch.arange(count) % filled].to(self.recent_ND.device)
        points_ND = self.recent_ND[:filled]
        spread_D = points_ND.std(dim=0, unbiased=False)
        noise_ND = torch.randn(count, points_ND.shape[1], generator=generator).to(points_ND)
        return points_ND[picks] + 0.01 * spread_D * noise_ND

    def _same_on_all_ranks(self) -> None:
        if _ranks() > 1:
            for buffer in (self.codes_KD, self.use_K, self.sums_KD):
                dist.broadcast(buffer, src=0)


def _sums(codes_N: Tensor, latents_ND: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Number of latents that chose each code (K,), and their sums (K, D)."""
    use_K = torch.bincount(codes_N, minlength=size).to(latents_ND.dtype)
    sums_KD = latents_ND.new_zeros(size, latents_ND.shape[1]).index_add_(0, codes_N, latents_ND)
    return use_K, sums_KD


def _ranks() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
