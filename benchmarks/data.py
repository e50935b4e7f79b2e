"""Preparing data: memory over time, and samples a second beside the stock class and the release's way.

    python benchmarks/data.py [--images 2000] [--plot out/memory.png] [--json out/memory.json]

Two parts. First `--images` made images (two an edit, drawn as they are read) go through
`earl prepare`'s own stage with a tiny tokenizer; the process's memory is read after every shard.
Then the same `--samples` edits are prepared in three ways, which take turns, with one tokenizer
of the release's shape (four frames of time); CPU seconds of the better of `--rounds` count:

    ours     batches, one frame of work for a still image, shards
    stock    the same, but images are encoded by `Emu3VQVAE.encode` (four equal frames)
    release  `Emu3VQVAE.encode`, one image at a time, one file a sample (safetensors; it pickles)

Codes of all three are checked to be equal but for near-ties (99.9%).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from earl.config.data import PreparationSettings
from earl.data.prepare import Counts, prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import OpenedSource
from earl.data.sources.own import own_schema
from earl.vision.creating import create_vision_tokenizer
from earl.vision.images import open_image, resize_pair
from earl.vision.tokenizer import VisionTokenizer, to_pixels

PAGE = os.sysconf("SC_PAGE_SIZE")


class MadeRows:
    """Edits that are drawn as they are read: a plain ground with three boxes, one of which changes."""

    name, quick = "made", True

    def __init__(self, edits: int, side: int) -> None:
        self.edits, self.side = edits, side
        self.files: list[Path] = []

    def count(self) -> int:
        return self.edits

    def read(self, start: int = 0, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        for number in range(start, self.edits):
            rng = np.random.default_rng([5, number])
            pixels = np.empty((self.side, self.side, 3), np.uint8)
            pixels[:] = rng.integers(0, 256, 3)
            for _ in range(2):
                _box(pixels, rng)
            source = _png(pixels)
            _box(pixels, rng)
            yield {
                "id": number,
                "source": source,
                "target": _png(pixels),
                "instruction": f"add box {number}",
                "family": "add",
            }


def _box(pixels: NDArray[np.uint8], rng: np.random.Generator) -> None:
    top, left = rng.integers(0, pixels.shape[0] * 3 // 4, 2)
    height, width = rng.integers(4, pixels.shape[0] // 2, 2)
    pixels[top : top + height, left : left + width] = rng.integers(0, 256, 3)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def made(edits: int, side: int) -> OpenedSource:
    return OpenedSource(own_schema("made"), MadeRows(edits, side), None)  # type: ignore[arg-type]


class StockEncoder:
    """The stock class behind the interface of ours."""

    def __init__(self, tokenizer: VisionTokenizer) -> None:
        self.tokenizer, self.codebook_size = tokenizer, tokenizer.codebook_size

    def fingerprint(self) -> str:
        return self.tokenizer.fingerprint()

    @torch.inference_mode()
    def encode(self, images: Sequence[Image.Image], resize: bool = True) -> list[NDArray[np.int32]]:
        pixels = to_pixels(images)
        sizes = [tuple(pixels.shape[-2:])] * len(images)
        tokens = self.tokenizer.model.encode(pixels, image_sizes=sizes).image_tokens
        return [np.asarray(codes).reshape(codes.shape[-2:]).astype(np.int32) for codes in tokens]


def memory_run(images: int, side: int, folder: Path, *, shard_rows: int) -> list[dict[str, float]]:
    """Prepare made images; one reading (images so far, seconds, resident MiB) a shard."""
    tokenizer = VisionTokenizer(
        create_vision_tokenizer(seed=0, codebook_size=64, channel_multiplier=(1, 1, 1, 1)), area=side * side
    )
    settings = PreparationSettings(area=side * side, shard_rows=shard_rows, batch=64)
    readings: list[dict[str, float]] = []
    began, busy = time.perf_counter(), time.process_time()

    def note(counts: Counts) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        readings.append(
            {
                "images": 2 * counts.edits,
                "seconds": round(time.perf_counter() - began, 2),
                "cpu_seconds": round(time.process_time() - busy, 2),
                "mib": round(pages * PAGE / 2**20, 2),
            }
        )

    prepare_source(made(images // 2, side), folder, tokenizer, settings, on_progress=note)
    return readings


def halves(readings: Sequence[dict[str, float]]) -> list[tuple[float, float]]:
    """The least and most MiB of the first and of the second half of a run, its start left out."""
    after = readings[1:] or readings
    middle = len(after) // 2
    return [
        (min(r["mib"] for r in half), max(r["mib"] for r in half))
        for half in (after[:middle] or after, after[middle:])
    ]


def release_way(tokenizer: VisionTokenizer, edits: int, side: int, folder: Path) -> None:
    """One image at a time through the stock class, one file a sample."""
    from safetensors.numpy import save_file

    stock = StockEncoder(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    for row in MadeRows(edits, side).read():
        pair = resize_pair(open_image(row["source"]), open_image(row["target"]), side * side)
        codes = [stock.encode([image])[0] for image in pair]
        tensors = dict(zip(("source", "target"), codes, strict=True))
        save_file(tensors, folder / f"{row['id']}.safetensors", {"instruction": row["instruction"]})


def compare(samples: int, side: int, width: int, rounds: int, folder: Path) -> dict[str, float]:
    """CPU seconds of each way for the same edits; their codes have to be the same."""
    from safetensors.numpy import load_file

    tokenizer = VisionTokenizer(
        create_vision_tokenizer(
            0,
            base_channels=width,
            channel_multiplier=(1, 2, 2, 4),
            attn_resolutions=(3,),
            temporal_downsample_factor=4,
            codebook_size=4096,
        ),
        area=side * side,
    )
    settings = PreparationSettings(area=side * side)
    ways: dict[str, Callable[[Path], object]] = {
        "ours": lambda out: prepare_source(made(samples, side), out, tokenizer, settings),
        "stock": lambda out: prepare_source(made(samples, side), out, StockEncoder(tokenizer), settings),
        "release": lambda out: release_way(tokenizer, samples, side, out),
    }
    best = dict.fromkeys(ways, float("inf"))
    for turn in range(rounds):
        for name, run in ways.items():
            began = time.process_time()
            run(folder / f"{name}-{turn}")
            best[name] = min(best[name], time.process_time() - began)
    ours, stock = load_shards(folder / "ours-0"), load_shards(folder / "stock-0")
    same = cells = 0
    for place in range(samples):
        single = load_file(folder / "release-0" / f"{place}.safetensors")
        for other in (stock[place].target_codes, single["target"]):
            same, cells = same + int((ours[place].target_codes == other).sum()), cells + other.size
    print(f"  {same / cells:.4%} of the codes are the same in all three ways")
    if same < 0.999 * cells:  # a batch adds up in another order, which may tip a near-tie
        raise SystemExit("the codes of the three ways differ")
    return best


def plot(readings: Sequence[dict[str, float]], path: Path) -> None:
    """Memory over images as a PNG, by matplotlib where it is installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as pyplot
    except ImportError as error:
        raise SystemExit("--plot needs matplotlib: pip install matplotlib") from error
    figure, axes = pyplot.subplots(figsize=(7, 3.2), layout="constrained")
    axes.plot([r["images"] for r in readings], [r["mib"] for r in readings], linewidth=1.5)
    top = 1.2 * max(r["mib"] for r in readings)
    axes.set(xlabel="images prepared", ylabel="resident memory, MiB", ylim=(0, top), xlim=(0, None))
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000, help="images of the memory run; 0 skips it")
    parser.add_argument("--side", type=int, default=64, help="px of made images")
    parser.add_argument("--shard-rows", type=int, default=128)
    parser.add_argument("--samples", type=int, default=16, help="edits of the comparison; 0 skips it")
    parser.add_argument("--width", type=int, default=32, help="base channels there (the release has 256)")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="PNG of memory over time")
    parser.add_argument("--json", type=Path, help="the readings")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        if options.images:
            readings = memory_run(
                options.images, options.side, Path(scratch) / "memory", shard_rows=options.shard_rows
            )
            found["readings"], found["halves"], last = readings, halves(readings), readings[-1]
            shown = ", then ".join(f"{least:.0f} to {most:.0f}" for least, most in found["halves"])
            print(
                f"  {last['images']:.0f} made images of {options.side} px in {last['seconds']:.0f} s "
                f"({last['cpu_seconds']:.0f} CPU-s); MiB after each shard, by halves: {shown}"
            )
        if options.samples:
            best = compare(
                options.samples, options.side, options.width, options.rounds, Path(scratch) / "ways"
            )
            for name, seconds in best.items():
                print(
                    f"  {name:8} {seconds:8.2f} CPU-s, {options.samples / seconds:8.1f} edits/CPU-s, "
                    f"{seconds / best['ours']:.1f}x the time of ours"
                )
            found["seconds"] = best
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.plot and options.images:
        plot(found["readings"], options.plot)
    return found


if __name__ == "__main__":
    main()
