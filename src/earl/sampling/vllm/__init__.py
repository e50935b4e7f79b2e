"""vLLM as an engine: in this process, on a server, and the plugin that keeps it to the image grammar.

Only `processor`, which vLLM itself loads, imports vLLM at the top.
"""

from earl.sampling.vllm.arguments import GrammarArguments
from earl.sampling.vllm.engine import VllmEngine
from earl.sampling.vllm.server import VllmServer

__all__ = ["GrammarArguments", "VllmEngine", "VllmServer"]
