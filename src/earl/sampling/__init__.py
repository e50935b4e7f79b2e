"""Sampling completions from a policy under the grammar: the `Engine` protocol and what makes one.

`earl.sampling.native` is our own engine, `earl.sampling.vllm` asks vLLM.
"""

from earl.sampling.factory import create_engine
from earl.sampling.protocol import Engine, OnCompletion, OnRow, Request

__all__ = ["Engine", "OnCompletion", "OnRow", "Request", "create_engine"]
