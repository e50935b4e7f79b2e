"""Parameter counts of a policy shape, and the memory that they take: arithmetic, no torch.

Tests hold it against the real modules at small sizes; the 8.5 B model is never built for it.

Units: bytes, and counts of parameters and tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

GIB = 2**30
BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}
# Weight-only quantisation keeps scales beside the weights: one bfloat16 a row for int8 (nothing that
# counts), a bfloat16 scale and zero point for each 128 weights for int4.
_SCALES = {"int4": 4 / 128}
EMU3_VISION_PARAMETERS = 270_740_287
IMAGE_MARKS = 9  # BOI, "H*W" as at most five ids, IMG, EOF, EOI

Width = Annotated[int, Field(ge=1, le=2**24)]
Small = Annotated[float, Field(gt=0, lt=1)]


class PolicyShape(BaseModel):
    """The fields of a policy's `config.json` that are read; names and defaults are `Emu3TextConfig`'s."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)

    vocab_size: Width = 184_622
    hidden_size: Width = 4096
    intermediate_size: Width = 14_336
    num_hidden_layers: Width = 32
    num_attention_heads: Width = 32
    num_key_value_heads: Width = 8
    head_dim: Width | None = None
    max_position_embeddings: Width = 9216
    rms_norm_eps: Small = 1e-5
    initializer_range: Small = 0.02
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    hidden_act: Any = "silu"
    pad_token_id: Any = None
    bos_token_id: Any = None
    eos_token_id: Any = None

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> PolicyShape:
        """From the content of a `config.json`, released or transformers layout; what a full -hf folder
        leaves out is Emu3's own."""
        text = (raw.get("text_config") if raw.get("model_type") == "emu3" else raw) or {}
        return cls(**{name: value for name, value in text.items() if value is not None})

    @property
    def head_width(self) -> int:
        return self.head_dim or self.hidden_size // self.num_attention_heads

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of each matrix of a layer, by its name in transformers."""
        queries, keys = self.num_attention_heads * self.head_width, self.num_key_value_heads * self.head_width
        return {
            "q_proj": (self.hidden_size, queries),
            "k_proj": (self.hidden_size, keys),
            "v_proj": (self.hidden_size, keys),
            "o_proj": (queries, self.hidden_size),
            "gate_proj": (self.hidden_size, self.intermediate_size),
            "up_proj": (self.hidden_size, self.intermediate_size),
            "down_proj": (self.intermediate_size, self.hidden_size),
        }

    @property
    def layer_matrices(self) -> int:
        """Parameters of one layer's matrices."""
        return sum(inputs * outputs for inputs, outputs in self.projections.values())

    @property
    def layer_parameters(self) -> int:
        """Parameters of one layer: matrices, biases, two norms."""
        biases = 0
        for name, (_, outputs) in self.projections.items():
            mlp = name in ("gate_proj", "up_proj", "down_proj")
            biases += outputs * (self.mlp_bias if mlp else self.attention_bias)
        return self.layer_matrices + biases + 2 * self.hidden_size

    @property
    def table(self) -> int:
        """Parameters of the embedding, and of the head."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """All of them; a head tied to the embedding counts once."""
        tables = self.table * (1 if self.tie_word_embeddings else 2)
        return self.num_hidden_layers * self.layer_parameters + tables + self.hidden_size

    def lora_parameters(self, rank: int, targets: Iterable[str]) -> int:
        """Parameters of the two low-rank matrices beside each target, in all layers."""
        sizes = self.projections
        return self.num_hidden_layers * sum(rank * sum(sizes[target]) for target in targets)

    def weight_bytes(self, dtype: str) -> float:
        """Bytes of the weights; int8 and int4 hold the layers' matrices, the rest stays bfloat16."""
        matrices = self.num_hidden_layers * self.layer_matrices
        if dtype in ("int8", "int4"):
            each = BYTES[dtype] + _SCALES.get(dtype, 0.0)
            return matrices * each + (self.parameters - matrices) * BYTES["bfloat16"]
        return self.parameters * BYTES[dtype]

    def cache_bytes(self, tokens: float, dtype: str = "bfloat16") -> float:
        """Bytes of the keys and values of so many tokens."""
        return 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_width * BYTES[dtype] * tokens


EMU3 = PolicyShape()


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
