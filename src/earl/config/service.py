"""Settings of the HTTP service."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from earl.config.settings import Count, Seconds, Settings

Port = Annotated[int, Field(ge=0, le=65_535)]


class ServerSettings(Settings):
    """Where a server listens, and how much it accepts."""

    host: str = Field(
        default="127.0.0.1", min_length=1, description="address to listen at; 0.0.0.0 is every interface"
    )
    port: Port = Field(default=8000, description="port to listen at; 0 takes a free one")
    keys_env: str | None = Field(
        default=None, description="environment variable with the accepted API keys, separated by commas"
    )
    max_queue: Count = Field(
        default=64, description="images (or questions) in progress and waiting, at most; more get 429"
    )
    deadline: Seconds = Field(default=300.0, description="seconds that a request may take, waiting included")
    drain: Seconds = Field(default=30.0, description="seconds to finish what is running after SIGTERM")
    max_bytes: Count = Field(default=32 * 2**20, description="bytes of a request, at most")
    max_pixels: Count = Field(default=32_000_000, description="pixels of an image that is sent, at most")


class ServiceSettings(ServerSettings):
    """The same for edits."""

    provenance: bool = Field(
        default=True, description="store no model, seed and hash of the instruction in the images"
    )
    origins: tuple[str, ...] = Field(
        default=(), description="web pages whose scripts may ask, as https://example.org (CORS); *: all"
    )
    max_prompt: Count = Field(default=2_000, description="characters of an instruction, at most")
