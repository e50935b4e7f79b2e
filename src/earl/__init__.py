"""EARL: editing images with autoregression and reinforcement learning.

The public calls are loaded on first use, so that `import earl` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "load_policy": "earl.policy.loading",
    "save_policy": "earl.policy.saving",
    "load_vision_tokenizer": "earl.vision.loading",
    "EditPipeline": "earl.pipeline.edit",
}

__all__ = ["EditPipeline", "__version__", "load_policy", "load_vision_tokenizer", "save_policy"]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'earl' has no attribute {name!r}")
