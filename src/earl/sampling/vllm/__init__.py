"""vLLM in place of our own engine: its plugin, its grammar, an engine in this process, a server's client.

Nothing here needs vLLM at import but `processor`, which only vLLM itself loads.
"""

from earl.sampling.vllm.arguments import GrammarArguments
from earl.sampling.vllm.local import VllmEngine
from earl.sampling.vllm.server import VllmServer

__all__ = ["GrammarArguments", "VllmEngine", "VllmServer"]
