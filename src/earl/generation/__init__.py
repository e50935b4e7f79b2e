"""Sampling completions from the policy under the grammar."""

from earl.generation.engine import Engine, default_dtype
from earl.generation.requests import Request, Sampling

__all__ = ["Engine", "Request", "Sampling", "default_dtype"]
