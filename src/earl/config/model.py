"""Settings of the model that edits: its parts, its engine and its device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from earl.config.settings import Count, Place, Settings
from earl.records import Bits

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")]
Memory = Annotated[str, Field(pattern=r"^\d+(\.\d+)?\s*[KMGT]i?B$")]


class EngineSettings(Settings):
    """The engine that samples completions from a policy."""

    engine: Literal["earl", "vllm", "vllm-server"] = Field(
        default="earl", description="what samples: our engine, vLLM in this process, or a vLLM server"
    )
    max_batch: Count = Field(default=128, description="completions in progress at once (memory)")
    memory: float = Field(default=0.4, gt=0, lt=1, description="share of the GPU for engine = 'vllm'")
    sleep: bool = Field(default=False, description="engine = 'vllm' frees its GPU memory between calls")
    server: str | None = Field(default=None, description="http://host:8000, for engine = 'vllm-server'")
    servers: tuple[str, ...] = Field(
        default=(), description="several of them, which share the completions, in place of server"
    )
    server_weights: str | None = Field(
        default=None, description="folder that server and this process both see, for weights that change"
    )

    def problems(self) -> Iterator[str]:
        remote = self.engine == "vllm-server"
        given = (self.server is not None) + bool(self.servers)
        if given != remote or (self.server_weights is not None and not remote):
            yield (
                f"engine = {self.engine!r}, server = {self.server!r}, servers = {list(self.servers)} and "
                f"server_weights = {self.server_weights!r} disagree: a server is for engine = 'vllm-server', "
                "which needs server or servers, not both"
            )
        if len(set(self.servers)) < len(self.servers):
            yield f"servers = {list(self.servers)} names one twice"


class ModelSettings(EngineSettings):
    """A model to edit with."""

    model: Place = Field(
        default="world", description="name of a registered model, a folder, or a hub id owner/name"
    )
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub id")
    tokenizer: str | None = Field(default=None, description="take the text tokenizer from this model")
    vision: str | None = Field(default=None, description="take the vision tokenizer from this model")
    device: Device = Field(default="auto", description="auto (CUDA where there is one), cpu, cuda or cuda:1")
    dtype: Dtype = Field(default="auto", description="of the policy; auto: bfloat16 on CUDA, else as stored")
    quantize: Bits | None = Field(
        default=None, description="hold the policy's matrices in 8 or 4 bits (on a GPU: earl-edit[quant])"
    )

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.engine != "earl" and self.quantize is not None:
            yield "quantize is for engine = 'earl'; give vLLM a model that is quantised as it reads them"
