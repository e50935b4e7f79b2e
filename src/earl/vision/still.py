"""Encoder and decoder of `Emu3VQVAE` for still images, computing one frame only.

The stock class treats a still image as `temporal_downsample_factor` equal frames. Here
- encoding runs the 2-D part once and repeats its features before the temporal part, which is
  computed as it stands (folding its taps would flip near-ties between codes);
- decoding computes frame 0 only: its causal temporal convolutions see nothing but zeros
  before it, so their last tap is all there is, and they become 2-D convolutions;
- with one frame (`temporal_downsample_factor=1`) both directions are 2-D throughout;
- the 1x1 convolutions of the spatial norms run at the latent resolution, before the nearest
  upsampling rather than after it: the same numbers, 64 times fewer of them at full size.

All functions call torch's own layers by the names that they have in the stock class: a model is one of
those, or `parts.VisionParts`. Gradients reach their parameters, and the batch norms use their running
statistics. What trains the model is in `learning.py`.

Axes: B images, C channels, H W rows and columns (pixels or latent cells), D code dimension.

Source: SBER-MoVQGAN as in Emu3 (arXiv 2409.18869), `transformers` models/emu3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Emu3VQVAE

    from earl.vision.parts import VisionParts

    Model: TypeAlias = Emu3VQVAE | VisionParts
# Inner modules: their attributes are not typed.
Module: TypeAlias = Any
_CACHED = 2**20  # distances at once on a CPU


def encode_still(model: Model, pixels_BCHW: Tensor) -> Tensor:
    """Latents of still images, before the nearest code is looked up.

    Args:
        model: the stock class or its parts; its temporal factor may be 1 or more.
        pixels_BCHW: (B, 3, H, W) in [-1, 1]; H and W at least the spatial factor (8).

    Returns:
        (B, D, H // 8, W // 8), of the dtype that the model computes in.
    """
    encoder: Module = model.encoder
    x = encoder.conv_in(pixels_BCHW)
    for level in encoder.down_block.down:
        for i, block in enumerate(level.block):
            x = _resnet(block, x)
            if len(level.attn) > 0:
                x = _attention(level.attn[i], level.attn_norms[i], x)
        if hasattr(level, "downsample"):
            x = level.downsample.conv(F.pad(x, (0, 1, 0, 1)))
    middle = encoder.middle_block
    x = _resnet(middle.block_1, x)
    x = _attention(middle.attn_1, middle.attn_norm, x)
    x = _resnet(middle.block_2, x)
    x = encoder.conv_out(F.silu(encoder.norm_out(x)))
    if model.config.temporal_downsample_factor == 1:
        for block in encoder.time_res_stack:
            x = _temporal_resnet(block, x)
        return _last_tap(model.quant_conv, x)
    return _encode_repeated(model, x)


def decode_still(model: Model, quant_BDHW: Tensor) -> Tensor:
    """Pixels of frame 0 from code vectors.

    Args:
        model: the stock class or its parts.
        quant_BDHW: (B, D, H, W) rows of the codebook.

    Returns:
        (B, 3, 8 H, 8 W), about [-1, 1], not clamped.
    """
    decoder: Module = model.decoder
    # the stock class runs the temporal part over both inputs as one batch
    both = torch.cat((_last_tap(model.post_quant_conv, quant_BDHW), quant_BDHW))
    for block in decoder.time_res_stack:
        both = _temporal_resnet(block, both)
    for layer in decoder.time_conv:
        both = F.silu(_last_tap(layer.conv, both))
    x, quant = both.chunk(2)

    x = decoder.conv_in(x)
    middle = decoder.middle_block
    x = _resnet(middle.block_1, x, quant)
    x = _attention(middle.attn_1, middle.attn_norm, x, quant)
    x = _resnet(middle.block_2, x, quant)
    for level in reversed(list(decoder.up_block.up)):
        for i, block in enumerate(level.block):
            x = _resnet(block, x, quant)
            if len(level.attn) > 0:
                x = _attention(level.attn[i], level.attn_norms[i], x, quant)
        if hasattr(level, "upsample"):
            x = level.upsample.conv(upsample(x, 2))
    return decoder.conv_out(F.silu(_norm(decoder.norm_out, x, quant)))


def nearest_codes(embedding_KD: Tensor, latents_BDHW: Tensor) -> Tensor:
    """Index of the nearest codebook row of each latent, with the stock class's own arithmetic.

    Args:
        embedding_KD: (K, D).
        latents_BDHW: (B, D, H, W), same dtype.

    Returns:
        int64 (B, H, W) in [0, K).
    """
    B, D, H, W = latents_BDHW.shape
    rows_ND = latents_BDHW.permute(0, 2, 3, 1).reshape(-1, D)
    return nearest_rows(embedding_KD, rows_ND).view(B, H, W)


def nearest_rows(embedding_KD: Tensor, rows_ND: Tensor) -> Tensor:
    """As `nearest_codes`, for rows (N, D): int64 (N,).

    The order of the operations is that of `Emu3VQVAEVectorQuantizer`, so that ties fall alike. Rows
    go through in chunks whose distances stay in the cache (several times faster with 32,768 codes).
    """
    squares_K = torch.sum(embedding_KD**2, dim=1)
    squares_N1 = torch.sum(rows_ND**2, dim=1, keepdim=True)
    step = max(1, (_CACHED if rows_ND.device.type == "cpu" else 64 * _CACHED) // len(embedding_KD))
    found = []
    for first in range(0, len(rows_ND), step):
        products = torch.matmul(rows_ND[first : first + step], embedding_KD.transpose(0, 1))
        # doubling is exact, so subtracting twice the product rounds as the stock class does
        distances = (squares_N1[first : first + step] + squares_K).sub_(products, alpha=2)
        found.append(torch.argmin(distances, dim=1))
    return torch.cat(found)


class _Upsample(torch.autograd.Function):
    """Nearest upsampling by whole factors; on CPU several times faster than `F.interpolate`.

    Columns first, while there are few rows; then whole rows are copied. Backward the same
    way round: rows are summed first.
    """

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, times: int) -> Tensor:
        ctx.times = times
        B, C, H, W = x_BCHW.shape
        wide = x_BCHW.repeat_interleave(times, dim=-1)
        return wide.unsqueeze(3).expand(-1, -1, -1, times, -1).reshape(B, C, H * times, W * times)

    @staticmethod
    def backward(ctx: Any, grad_BCHW: Tensor) -> tuple[Tensor, None]:
        times = ctx.times
        B, C, H, W = grad_BCHW.shape
        if times == 2:
            rows = grad_BCHW[..., ::2, :] + grad_BCHW[..., 1::2, :]
            return rows[..., ::2] + rows[..., 1::2], None
        rows = grad_BCHW.reshape(B, C, H // times, times, W).sum(3)
        return rows.view(B, C, H // times, W // times, times).sum(-1), None


def upsample(x_BCHW: Tensor, times: int) -> Tensor:
    """Each cell repeated `times` x `times`: (B, C, times H, times W)."""
    if times == 1:
        return x_BCHW
    return _Upsample.apply(x_BCHW, times)  # type: ignore[no-untyped-call]


def _encode_repeated(model: Model, features_BCHW: Tensor) -> Tensor:
    """The temporal part over equal frames, in the stock class's order; one latent frame comes out."""
    encoder: Module = model.encoder
    frames = model.config.temporal_downsample_factor
    x_BCTHW = features_BCHW.unsqueeze(2).repeat(1, 1, frames, 1, 1)
    for conv in encoder.time_conv:
        x_BCTHW = F.silu(_causal(conv.conv, x_BCTHW))
    for block in encoder.time_res_stack:
        h = _causal(block.conv1, _swish(block.norm1(x_BCTHW)))
        h = _causal(block.conv2, _swish(block.norm2(h)))
        x_BCTHW = x_BCTHW + h
    return _causal(model.quant_conv, x_BCTHW).squeeze(2)


def _swish(x: Tensor) -> Tensor:
    """As the stock class spells it, which rounds otherwise than `F.silu`."""
    return x * torch.sigmoid(x)


def _causal(causal: Module, x_BCTHW: Tensor) -> Tensor:
    """A causal 3-D convolution: two frames of zeros come first, and rows and columns keep their number."""
    conv = causal.conv
    rows, columns = (size - step for size, step in zip(conv.kernel_size[1:], conv.stride[1:], strict=True))
    pad = (columns - columns // 2, columns // 2, rows - rows // 2, rows // 2, 2, 0)
    return conv(F.pad(x_BCTHW, pad))


def _last_tap(causal: Module, x_BCHW: Tensor) -> Tensor:
    """A causal 3-D convolution on a first frame: only zeros come before it."""
    conv = causal.conv
    rows, columns = conv.kernel_size[1:]
    return F.conv2d(x_BCHW, conv.weight[:, :, -1], conv.bias, padding=(rows // 2, columns // 2))


def _temporal_resnet(block: Module, x_BCHW: Tensor) -> Tensor:
    """`Emu3VQVAETemporalResnetBlock` on a first frame."""
    h = _last_tap(block.conv1, F.silu(_batch_norm(block.norm1, x_BCHW)))
    h = _last_tap(block.conv2, F.silu(_batch_norm(block.norm2, h)))
    if block.in_channels != block.out_channels:
        x_BCHW = F.conv2d(x_BCHW, block.nin_shortcut.weight[:, :, 0], block.nin_shortcut.bias)
    return x_BCHW + h


def _batch_norm(norm: Module, x_BCHW: Tensor) -> Tensor:
    """With the running statistics, also in training: batches of images are small."""
    return F.batch_norm(
        x_BCHW, norm.running_mean, norm.running_var, norm.weight, norm.bias, training=False, eps=norm.eps
    )


def _norm(norm: Module, x_BCHW: Tensor, quant_BDHW: Tensor | None) -> Tensor:
    """Group norm, in the decoder scaled and shifted by the code vectors (`Emu3VQVAESpatialNorm`)."""
    if quant_BDHW is None:
        return norm(x_BCHW)
    times = x_BCHW.shape[-1] // quant_BDHW.shape[-1]
    scale, shift = upsample(norm.conv_y(quant_BDHW), times), upsample(norm.conv_b(quant_BDHW), times)
    normed = norm.norm_layer(x_BCHW)
    return normed * scale + shift


def _resnet(block: Module, x_BCHW: Tensor, quant_BDHW: Tensor | None = None) -> Tensor:
    """`Emu3VQVAEResnetBlock`."""
    h: Tensor = block.conv1(F.silu(_norm(block.norm1, x_BCHW, quant_BDHW)))
    h = block.conv2(F.silu(_norm(block.norm2, h, quant_BDHW)))
    if block.in_channels != block.out_channels:
        x_BCHW = block.nin_shortcut(x_BCHW)
    return x_BCHW + h


def _attention(attention: Module, norm: Module, x: Tensor, quant: Tensor | None = None) -> Tensor:
    """Self-attention over all cells, with its norm and residual. x (B, C, H, W)."""
    B, C, H, W = x.shape
    cells_BNC = _norm(norm, x, quant).reshape(B, C, H * W).transpose(1, 2)
    heads = (B, H * W, attention.num_heads, -1)
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    queries, keys, values = (project(cells_BNC).view(heads).transpose(1, 2) for project in projections)
    mixed = F.scaled_dot_product_attention(queries, keys, values)
    mixed_BNC: Tensor = attention.out_proj(mixed.transpose(1, 2).reshape(B, H * W, C))
    return x + mixed_BNC.transpose(1, 2).reshape(B, C, H, W)
