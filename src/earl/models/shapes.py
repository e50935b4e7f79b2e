"""Parameter counts of a policy shape, and the memory that they take: arithmetic, no torch.

Tests hold it against the real modules at small sizes; the 8.5 B model is never built for it.

Units: bytes, and counts of parameters and tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

GIB = 2**30
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}
# Weight-only quantisation keeps scales beside the weights: one bfloat16 a row for int8 (nothing that
# counts), a bfloat16 scale and zero point for each 128 weights for int4.
_SCALES = {"int4": 4 / 128}
EMU3_VISION_PARAMETERS = 270_740_287
IMAGE_MARKS = 9  # BOI, "H*W" as at most five ids, IMG, EOF, EOI


@dataclass(frozen=True, slots=True)
class PolicyShape:
    """The numbers of an `Emu3TextConfig` that decide its size."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    head_dim: int = 0
    tied: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> PolicyShape:
        """From the content of a `config.json`, released or transformers layout; what a full -hf folder
        leaves out is Emu3's own."""
        text = raw.get("text_config") if raw.get("model_type") == "emu3" else raw
        text = text or {}
        heads = int(text.get("num_attention_heads") or 32)
        return cls(
            hidden=int(text.get("hidden_size") or 4096),
            layers=int(text.get("num_hidden_layers") or 32),
            heads=heads,
            kv_heads=int(text.get("num_key_value_heads") or (8 if "hidden_size" not in text else heads)),
            ffn=int(text.get("intermediate_size") or 14336),
            vocabulary=int(text.get("vocab_size") or 184_622),
            head_dim=int(text.get("head_dim") or 0),
            tied=bool(text.get("tie_word_embeddings", False)),
            attention_bias=bool(text.get("attention_bias", False)),
            mlp_bias=bool(text.get("mlp_bias", False)),
        )

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden // self.heads

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each matrix of a layer, by its name in transformers."""
        queries, keys = self.heads * self.head_width, self.kv_heads * self.head_width
        return {
            "q_proj": (self.hidden, queries),
            "k_proj": (self.hidden, keys),
            "v_proj": (self.hidden, keys),
            "o_proj": (queries, self.hidden),
            "gate_proj": (self.hidden, self.ffn),
            "up_proj": (self.hidden, self.ffn),
            "down_proj": (self.ffn, self.hidden),
        }

    @property
    def layer_matrices(self) -> int:
        """Parameters of one layer's matrices."""
        return sum(inputs * outputs for inputs, outputs in self.projections.values())

    @property
    def layer_parameters(self) -> int:
        """Of one layer: matrices, biases, two norms."""
        biases = 0
        for name, (_, outputs) in self.projections.items():
            mlp = name in ("gate_proj", "up_proj", "down_proj")
            biases += outputs * (self.mlp_bias if mlp else self.attention_bias)
        return self.layer_matrices + biases + 2 * self.hidden

    @property
    def table(self) -> int:
        """Parameters of the embedding, and of the head."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All of them; a head tied to the embedding counts once."""
        tables = self.table * (1 if self.tied else 2)
        return self.layers * self.layer_parameters + tables + self.hidden

    def lora_parameters(self, rank: int, targets: Iterable[str]) -> int:
        """Of the two low-rank matrices beside each target, all layers."""
        sizes = self.projections
        return self.layers * sum(rank * sum(sizes[target]) for target in targets)

    def weight_bytes(self, dtype: str) -> float:
        """Bytes of the weights; int8 and int4 hold the layers' matrices, the rest stays bfloat16."""
        matrices = self.layers * self.layer_matrices
        if dtype in ("int8", "int4"):
            each = BYTES[dtype] + _SCALES.get(dtype, 0.0)
            return matrices * each + (self.parameters - matrices) * BYTES["bfloat16"]
        return self.parameters * BYTES[dtype]

    def cache_bytes(self, tokens: float, dtype: str = "bfloat16") -> float:
        """Bytes of the keys and values of so many tokens."""
        return 2 * self.layers * self.kv_heads * self.head_width * BYTES[dtype] * tokens


EMU3 = PolicyShape(4096, 32, 32, 8, 14336, 184_622)


def image_tokens(area: int) -> int:
    """Ids of one square image of `area` px²: rows of codes with their ends, and what stands around."""
    side: int = max(1, round(area**0.5 / 8))
    return side * (side + 1) + IMAGE_MARKS


def edit_bytes(shape: PolicyShape, vision_parameters: int, area: int, dtype: str) -> float:
    """Bytes to edit one image: weights, the vision tokenizer in float32, one cache.

    Left out: the CUDA context and libraries, the vision tokenizer's activations (about 1 GiB at 256 px).
    """
    cached = 2 * image_tokens(area) + 64  # the source, the edited image, the instruction
    return shape.weight_bytes(dtype) + vision_parameters * BYTES["float32"] + shape.cache_bytes(cached)
