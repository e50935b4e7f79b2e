"""Sampling completions from the policy under the grammar."""

from earl.sampling.native.engine import Engine, default_dtype
from earl.sampling.requests import Request, Sampling

__all__ = ["Engine", "Request", "Sampling", "default_dtype"]
