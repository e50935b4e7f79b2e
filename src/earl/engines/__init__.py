"""vLLM in place of our own engine: its plugin, its grammar, an engine in this process, a server's client.

Nothing here needs vLLM at import but `processor`, which only vLLM itself loads.
"""

from earl.engines.arguments import GrammarArguments
from earl.engines.local import VllmEngine
from earl.engines.server import VllmServer

__all__ = ["GrammarArguments", "VllmEngine", "VllmServer"]
