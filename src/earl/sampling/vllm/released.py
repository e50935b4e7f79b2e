"""Configuration class of the released layout, importable by every vLLM process."""

from __future__ import annotations

from transformers import LlamaConfig


class ReleasedEmu3Config(LlamaConfig):
    """Flat fields, as in `BAAI/Emu3-Stage1` and the released EARL models."""

    model_type = "Emu3"
    default_theta = 1_000_000.0  # where a file says none, as `earl.policy` reads it
