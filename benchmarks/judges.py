"""Memory of judges that score edits, computed: weights, and the cache of the questions in flight.

    python -m benchmarks.judges

Parameters are counted on transformers' classes with the shapes of the published configs. A question is two
images of 256 x 256 px, its words and its answer, taken as 1,536 ids (EditScore's own limit); so many are in
flight as `judge.concurrency` says. What a server needs besides (activations, CUDA graphs) is left out.
"""

from __future__ import annotations

import argparse

import torch
from transformers import AutoConfig, AutoModelForImageTextToText

# Text: hidden, feed-forward, layers, heads, heads of keys and values, tied head. Vision: hidden,
# feed-forward, layers. Those of the config.json of Qwen/Qwen2.5-VL-*-Instruct and Qwen/Qwen3-VL-*-Instruct.
QWEN25 = {
    "7B": ((3584, 18944, 28, 28, 4, False), (1280, 3420, 32)),
    "32B": ((5120, 27648, 64, 40, 8, False), (1280, 3456, 32)),
    "72B": ((8192, 29568, 80, 64, 8, False), (1280, 3456, 32)),
}
QWEN3 = {
    "4B": ((2560, 9728, 36, 32, 8, True), (1024, 4096, 24)),
    "8B": ((4096, 12288, 36, 32, 8, False), (1152, 4304, 27)),
    "32B": ((5120, 25600, 64, 64, 8, False), (1152, 4304, 27)),
}
JUDGES = (
    ("EditScore-Qwen3-VL-4B", QWEN3["4B"]),
    ("EditScore-7B", QWEN25["7B"]),
    ("FIRM-Edit-8B, EditScore-Qwen3-VL-8B", QWEN3["8B"]),
    ("EditScore-Qwen3-VL-32B", QWEN3["32B"]),
    ("EditScore-32B", QWEN25["32B"]),
    ("EditScore-72B, Qwen2.5-VL-72B", QWEN25["72B"]),
)
HEAD = 128


def parameters(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> int:
    """Of a model with these shapes, made without memory."""
    (hidden, feed, layers, heads, kv_heads, tied), (vision, vision_feed, depth) = shapes
    old = shapes in QWEN25.values()
    text = {
        "hidden_size": hidden,
        "intermediate_size": feed,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": 152_064 if old else 151_936,
        "tie_word_embeddings": bool(tied),
        **({} if old else {"head_dim": HEAD}),
    }
    eyes = {
        "hidden_size": vision,
        "intermediate_size": vision_feed,
        "depth": depth,
        "num_heads": 16,
        "out_hidden_size": hidden,
    }
    kind = "qwen2_5_vl" if old else "qwen3_vl"
    config = AutoConfig.for_model(kind, text_config=text, vision_config=eyes, tie_word_embeddings=bool(tied))
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    return sum(weight.numel() for weight in model.parameters())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ids", type=int, default=1536, help="of a question with its answer")
    parser.add_argument("--concurrency", type=int, default=32, help="questions in flight")
    options = parser.parse_args(arguments)
    for name, shapes in JUDGES:
        layers, kv_heads = shapes[0][2], shapes[0][4]
        count = parameters(shapes)
        cache = 2 * layers * kv_heads * HEAD * 2 * options.ids * options.concurrency
        kinds = {"bfloat16": 2.0, "8 bits": 1.0, "4 bits": 0.5}
        sizes = ", ".join(f"{kind} {(count * size + cache) / 1e9:.1f} GB" for kind, size in kinds.items())
        print(f"{name}: {count / 1e9:.2f} B parameters, cache {cache / 1e9:.1f} GB; with it {sizes}")


if __name__ == "__main__":
    main()
