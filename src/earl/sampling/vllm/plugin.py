"""vLLM plugin (`vllm.general_plugins`): registers the two layouts of an Emu3 policy.

Emu3's text transformer is Llama's, so vLLM's own Llama runs it: the released layout (model type
"Emu3", remote code that is not run) and that of transformers ("emu3_text_model", which transformers
knows), with a head of its own or tied to the embedding. Nothing of vLLM is changed.
"""

from __future__ import annotations

ARCHITECTURE = "Emu3ForCausalLM"
LLAMA = "vllm.model_executor.models.llama:LlamaForCausalLM"


def register() -> None:
    """Called by vLLM in each of its processes; calling it again changes nothing."""
    from transformers import AutoConfig
    from vllm import ModelRegistry

    from earl.sampling.vllm.released import ReleasedEmu3Config

    AutoConfig.register(ReleasedEmu3Config.model_type, ReleasedEmu3Config, exist_ok=True)
    if ARCHITECTURE not in ModelRegistry.get_supported_archs():
        ModelRegistry.register_model(ARCHITECTURE, LLAMA)
