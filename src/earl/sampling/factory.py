"""`create_engine`: the engine that settings ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from earl.config import EngineSettings
from earl.sampling.protocol import Engine
from earl.sequence.tokenizer import TextTokenizer

if TYPE_CHECKING:
    import torch


def create_engine(
    settings: EngineSettings,
    policy: Any,
    tokenizer: TextTokenizer,
    *,
    dtype: str | torch.dtype | None = None,
    frozen: bool = False,
    **options: Any,
) -> Engine:
    """Make an engine.

    Args:
        settings: which engine, and what it may take.
        policy: an Emu3ForCausalLM, with or without LoRA; `engine = "vllm"` also takes its folder.
        tokenizer: the policy's text tokenizer.
        dtype: to compute in; None is the engine's own choice. A vLLM server has its own.
        frozen: the policy's weights will not change; the native engine then reads them once.
        options: of `NativeEngine` or of `vllm.LLM`, such as `step_tokens=0`.

    Raises:
        MissingExtraError: vLLM is not installed.
        EngineError: vLLM cannot be started or reached.
        ModelFormatError: policy and tokenizer are not of one model.
    """
    from earl.models.tensors import parse_dtype

    kind = None if dtype is None else parse_dtype(dtype)
    if settings.engine == "earl":
        from earl.sampling.native.engine import NativeEngine

        return NativeEngine(
            policy, tokenizer, max_batch=settings.max_batch, dtype=kind, frozen=frozen, **options
        )
    if settings.engine == "vllm":
        from earl.sampling.vllm.engine import VllmEngine

        return VllmEngine(
            policy,
            tokenizer,
            max_batch=settings.max_batch,
            dtype=kind,
            memory=settings.memory,
            sleep=settings.sleep,
            **options,
        )
    from earl.sampling.vllm.server import VllmServer

    if settings.servers:
        from earl.sampling.vllm.servers import VllmServers

        return VllmServers(
            settings.servers, policy, tokenizer, weights=settings.server_weights, max_batch=settings.max_batch
        )
    assert settings.server is not None, "the settings' check guarantees it"
    return VllmServer(
        settings.server, policy, tokenizer, weights=settings.server_weights, max_batch=settings.max_batch
    )
