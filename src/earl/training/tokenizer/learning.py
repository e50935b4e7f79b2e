"""The vision tokenizer in training: images in, reconstruction and losses out.

The stock class gives only codes from `encode`, so training has its own pass (`still.py`, on
the stock class's own parameters) with a straight-through quantiser, a commitment loss, and a
codebook that follows moving averages (`codebook.py`). The codebook is written into the stock
class at every step, so at any moment `learner.model` encodes to the codes seen here.

Axes: B images, C channels, H W rows and columns, D code dimension, K codes.

Source: VQ-VAE (arXiv 1711.00937); the loss is pixels and their differences, no adversary.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Emu3VQVAE

from earl.config.stages import TokenizerLosses
from earl.errors import ConfigError
from earl.training.tokenizer.codebook import EMACodebook
from earl.vision.still import decode_still, encode_still, nearest_rows


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """Output of a pass: decoded images, codes, losses."""

    recon_BCHW: Tensor  # float, about [-1, 1], with gradient in training
    codes_BHW: Tensor  # int64; all zeros during the warm-up without quantisation
    loss: Tensor  # scalar, with gradient
    parts: dict[str, Tensor]  # scalars, detached and unweighted; psnr in dB over the batch
    quantised: bool


class TokenizerLearner(nn.Module):
    """An `Emu3VQVAE` with what it needs to learn.

    `state_dict()` holds the model, the codebook's averages and the step: enough to resume.
    The optimiser gets the parameters that require a gradient (the codebook does not). Run under
    `torch.autocast` if wanted: latents and codes are handled in float32 either way.

    Args:
        model: from `create_vision_tokenizer`, or loaded. Its batch norms keep their running
            statistics and its dropout is off, also in training.
        losses: weights of the parts of the loss, and the codebook's rules.
        keep_codes: teach the decoder alone: encoder and codebook stay as they are.
        seed: of the codebook's draws.
    """

    step: Tensor

    def __init__(
        self,
        model: Emu3VQVAE,
        losses: TokenizerLosses | None = None,
        *,
        keep_codes: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model, self.keep_codes = model, keep_codes
        self.losses = losses or TokenizerLosses(warmup_steps=0)
        size, dim = model.config.codebook_size, model.config.embed_dim
        self.codebook = EMACodebook(size, dim, decay=self.losses.codebook_decay, seed=seed)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        model.quantize.embedding.weight.requires_grad_(False)
        if keep_codes:
            for part in (model.encoder, model.quant_conv, model.quantize):
                part.requires_grad_(False)
        model.eval()
        self._encode, self._decode = encode_still, decode_still

    def train(self, mode: bool = True) -> TokenizerLearner:
        """Training mode of the learner; the model itself stays in eval mode (batch norm)."""
        super().train(mode)
        self.model.eval()
        return self

    def use_loaded_codebook(self) -> None:
        """Go on from the codebook that the model came with, instead of a k-means start."""
        with torch.no_grad():
            self.codebook.codes_KD.copy_(self.model.quantize.embedding.weight)
            self.codebook.use_K.fill_(1.0)
            self.codebook.sums_KD.copy_(self.codebook.codes_KD)
            self.codebook.counters[0] = 1

    def forward(self, pixels_BCHW: Tensor, weights_BHW: Tensor | None = None) -> Reconstruction:
        """One pass. In training mode it also moves the codebook.

        Args:
            pixels_BCHW: float (B, 3, H, W) in [-1, 1], H and W multiples of the spatial factor.
            weights_BHW: float (B, H, W), at least 0: how much each pixel counts. Scaled to a
                mean of 1 over the batch.

        Returns:
            Reconstruction.
        """
        if self.keep_codes and not self.codebook.started:
            raise ConfigError("keep_codes needs a codebook: call use_loaded_codebook() first")
        with torch.no_grad() if self.keep_codes else nullcontext():
            latents_BDHW = self._encode(self.model, pixels_BCHW).float()
        B, D, H, W = latents_BDHW.shape
        latents_ND = latents_BDHW.permute(0, 2, 3, 1).reshape(-1, D)
        quantised = self._ready(latents_ND)
        if quantised:
            with torch.no_grad():
                codes_N = nearest_rows(self.codebook.codes_KD, latents_ND)
                chosen_BDHW = self.codebook.codes_KD[codes_N].view(B, H, W, D).permute(0, 3, 1, 2)
            commitment = F.mse_loss(latents_BDHW, chosen_BDHW)
            passed_BDHW = latents_BDHW + (chosen_BDHW - latents_BDHW).detach()
        else:
            codes_N = torch.zeros(B * H * W, dtype=torch.int64, device=latents_ND.device)
            commitment = latents_BDHW.new_zeros(())
            passed_BDHW = latents_BDHW
        recon_BCHW = self._decode(self.model, passed_BDHW).float()
        loss, parts = self._loss(recon_BCHW, pixels_BCHW, weights_BHW, commitment)
        if self.training:
            self._learn(codes_N if quantised else None, latents_ND.detach())
        return Reconstruction(recon_BCHW, codes_N.view(B, H, W), loss, parts, quantised)

    def _ready(self, latents_ND: Tensor) -> bool:
        """Whether this pass is quantised; starts the codebook when its time has come."""
        if not self.codebook.started and self.training and int(self.step) >= self.losses.warmup_steps:
            self.codebook.remember(latents_ND.detach())
            self.codebook.start()
            self._write_codebook()
        return self.codebook.started

    def _learn(self, codes_N: Tensor | None, latents_ND: Tensor) -> None:
        self.step += 1
        if self.keep_codes:
            return
        self.codebook.remember(latents_ND)
        if codes_N is not None:
            self.codebook.update(codes_N, latents_ND)
            self._write_codebook()

    def _write_codebook(self) -> None:
        with torch.no_grad():
            self.model.quantize.embedding.weight.copy_(self.codebook.codes_KD)

    def _loss(
        self, recon: Tensor, pixels: Tensor, weights_BHW: Tensor | None, commitment: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        error_BCHW = recon - pixels
        l1, l2, gradient = pixel_losses(error_BCHW, weights_BHW)
        color = color_loss(error_BCHW, pixels) if self.losses.color else recon.new_zeros(())
        parts = {"l1": l1, "l2": l2, "gradient": gradient, "color": color, "commitment": commitment}
        total = sum((getattr(self.losses, name) * part for name, part in parts.items()), recon.new_zeros(()))
        told = {name: part.detach() for name, part in parts.items()}
        return total, told | {"psnr": psnr(recon, pixels)}


def pixel_losses(error_BCHW: Tensor, weights_BHW: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Mean |error|, mean error², and mean |difference of neighbouring errors|: three scalars.

    The third asks for equal edges: it is the L1 distance of finite differences, down and across.

    Args:
        error_BCHW: reconstruction minus image.
        weights_BHW: at least 0, scaled to mean 1; a pair of neighbours has their mean weight.
    """
    down = (error_BCHW[..., 1:, :] - error_BCHW[..., :-1, :]).abs()
    across = (error_BCHW[..., :, 1:] - error_BCHW[..., :, :-1]).abs()
    if weights_BHW is None:
        return error_BCHW.abs().mean(), error_BCHW.square().mean(), 0.5 * (down.mean() + across.mean())
    w = (weights_BHW / weights_BHW.mean().clamp(min=1e-8)).unsqueeze(1)
    w_down, w_across = 0.5 * (w[..., 1:, :] + w[..., :-1, :]), 0.5 * (w[..., :, 1:] + w[..., :, :-1])
    gradient = 0.5 * ((down * w_down).mean() + (across * w_across).mean())
    return (error_BCHW.abs() * w).mean(), (error_BCHW.square() * w).mean(), gradient


def color_loss(error_BCHW: Tensor, pixels_BCHW: Tensor) -> Tensor:
    """Mean |error| of 4 x 4 blocks, counted more where the image is vivid, plus half of what of it
    is not alike in all channels: a scalar that falls when hues come out right.

    Args:
        error_BCHW: reconstruction minus image, H and W multiples of 4.
        pixels_BCHW: the image; its blocks' largest minus smallest channel is how vivid they are.
    """
    blocks_BChw = F.avg_pool2d(pixels_BCHW, 4)
    vivid_B1hw = 1 + 3 * (blocks_BChw.amax(1, keepdim=True) - blocks_BChw.amin(1, keepdim=True))
    error_BChw = F.avg_pool2d(error_BCHW, 4)
    tinted_BChw = error_BChw - error_BChw.mean(1, keepdim=True)
    return ((error_BChw.abs() + 0.5 * tinted_BChw.abs()) * vivid_B1hw).mean()


@torch.no_grad()
def psnr(recon_BCHW: Tensor, pixels_BCHW: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of the whole batch, pixels in [-1, 1] (peak 2): scalar."""
    error = recon_BCHW.clamp(-1, 1) - pixels_BCHW
    return 10 * torch.log10(4 / error.square().mean().clamp(min=1e-10))
