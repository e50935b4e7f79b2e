"""The native engine: sampling on the policy's own weights."""

from earl.sampling.native.engine import NativeEngine, default_dtype

__all__ = ["NativeEngine", "default_dtype"]
