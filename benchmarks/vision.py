"""Still images through the vision tokenizer: ours beside the stock class, on the same weights.

`python benchmarks/vision.py` prints CPU seconds of each and their ratio. The two take turns, and
the best of a few rounds counts, so a busy machine shifts both alike. Codes are checked to be
equal, pixels to 1e-4 of their range.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from earl.vision.creating import create_vision_tokenizer
from earl.vision.tokenizer import VisionTokenizer


def best_seconds(stock: Callable[[], object], ours: Callable[[], object], rounds: int) -> tuple[float, float]:
    """CPU seconds of the fastest of `rounds` turns each."""
    best = [float("inf"), float("inf")]
    for _ in range(rounds):
        for i, run in enumerate((stock, ours)):
            began = time.process_time()
            run()
            best[i] = min(best[i], time.process_time() - began)
    return best[0], best[1]


def measure(*, width: int, side: int, rounds: int, seed: int = 0) -> list[tuple[str, float, float]]:
    """Rows (what, stock CPU seconds, our CPU seconds) for one image of side x side pixels."""
    tokenizer = VisionTokenizer(
        create_vision_tokenizer(
            seed,
            base_channels=width,
            channel_multiplier=(1, 2, 2, 4),
            attn_resolutions=(3,),
            temporal_downsample_factor=4,
            codebook_size=32768,
        )
    )
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1

    @torch.inference_mode()
    def stock_encode() -> Tensor:
        return torch.stack(list(tokenizer.model.encode(pixels, image_sizes=[(side, side)]).image_tokens))

    def our_encode() -> Tensor:
        return tokenizer.encode_pixels(pixels)

    codes = our_encode()
    if not torch.equal(stock_encode().view_as(codes), codes):
        raise SystemExit("codes differ from the stock class's")

    @torch.inference_mode()
    def stock_decode() -> Tensor:
        return tokenizer.model.decode(codes)

    def our_decode() -> Tensor:
        return tokenizer.decode_codes(codes)

    wanted = stock_decode()
    error = float((our_decode() - wanted).abs().max() / wanted.abs().max().clamp(min=1))
    if error > 1e-4:
        raise SystemExit(f"pixels differ from the stock class's by {error:.1e}")
    return [
        ("encode", *best_seconds(stock_encode, our_encode, rounds)),
        ("decode", *best_seconds(stock_decode, our_decode, rounds)),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64, help="base channels (the release has 256)")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = measure(width=options.width, side=options.side, rounds=options.rounds)
    print(f"still image {options.side}x{options.side}, base width {options.width}, float32, equal codes")
    for what, stock, ours in rows:
        print(f"  {what}: stock {stock:.2f} CPU-s, ours {ours:.2f} CPU-s, {stock / ours:.1f}x")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
