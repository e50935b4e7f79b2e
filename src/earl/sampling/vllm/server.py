"""A vLLM server, on other GPUs or another machine, as an `earl.sampling.Engine`.

    VLLM_SERVER_DEV_MODE=1 vllm serve POLICY --tokenizer MODEL --skip-tokenizer-init --enable-scale-out \
        --logprobs-mode processed_logprobs --generation-config vllm

Ids go in and come out (`/inference/v1/generate`). New weights pass through a folder that both sides
see: we write it, the server reads it (`/collective_rpc` and `/reset_prefix_cache`, which its
development mode opens: keep such a server off networks you do not trust).
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from earl.config import SamplingSettings
from earl.errors import EngineError
from earl.policy.likelihood import policy_of
from earl.sampling.vllm.base import ServedVllm, VllmSample
from earl.sampling.vllm.weights import write_checkpoint
from earl.sequence.tokenizer import TextTokenizer

_TIMEOUT = 600.0  # seconds for one answer


class VllmServer(ServedVllm):
    """Samples completions from a vLLM server. The rows of an image are reported when it is whole.

    Args:
        url: of the server, without a path: `http://host:8000`.
        policy: the Emu3ForCausalLM that the server is to sample from, with or without LoRA.
        tokenizer: its text tokenizer.
        weights: folder that the server sees under the same name, for new weights at each call; None
            leaves the server's weights as they are.
        max_batch: most samples asked for at once.
        check: ask at once whether it is there.

    Raises:
        EngineError: the server cannot be reached.
    """

    def __init__(
        self,
        url: str,
        policy: Any,
        tokenizer: TextTokenizer,
        *,
        weights: str | Path | None = None,
        max_batch: int = 128,
        check: bool = True,
    ) -> None:
        super().__init__(policy_of(policy).config, tokenizer, max_batch)
        self.url, self._policy = url.rstrip("/").removesuffix("/v1"), policy
        self.weights = Path(weights).absolute() if weights is not None else None
        if check:
            self.check()

    def check(self) -> None:
        """Raises EngineError: the server is not there."""
        self._ask("/health")

    def refresh(self) -> None:
        """Let the server read the policy's weights as they are now, and forget what it cached.

        Raises:
            EngineError: it did not. OutputError: the folder cannot be written.
        """
        if self.weights is None:
            return
        write_checkpoint(self._policy, self.weights)
        self.take_weights()

    def take_weights(self) -> None:
        """Let the server read what lies in the folder. Raises EngineError: it did not."""
        self._ask(
            "/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": str(self.weights)}}
        )
        answer = self._ask("/reset_prefix_cache", {})
        if isinstance(answer, dict) and not answer.get("success", True):
            raise EngineError(f"{self.url} kept its prefix cache, which belongs to the weights before")

    def _run(
        self, samples: Sequence[VllmSample], sampling: SamplingSettings
    ) -> Generator[VllmSample, None, None]:
        with ThreadPoolExecutor(min(self.max_batch, max(1, len(samples)))) as pool:
            asked = {pool.submit(self.complete, sample, sampling): sample for sample in samples}
            try:
                for answer in as_completed(asked):
                    asked[answer].take(*answer.result())
                    yield asked[answer]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def complete(self, sample: VllmSample, sampling: SamplingSettings) -> tuple[list[int], list[float]]:
        """Ids and log-probabilities of one completion. Raises EngineError."""
        parameters = sample.parameters(sampling, self.max_positions)
        body = {"token_ids": list(sample.request.prompt), "sampling_params": parameters}
        answer = self._ask("/inference/v1/generate", body)
        try:
            choice = answer["choices"][0]
            ids = [int(token) for token in choice["token_ids"]]
            logprobs = [float(entry["logprob"]) for entry in choice["logprobs"]["content"]]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineError(f"{self.url} answered in another form than vLLM 0.32's: {error!r}") from error
        return ids, logprobs

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        try:
            question = urllib.request.Request(
                self.url + path, data=data, headers={"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(question, timeout=_TIMEOUT) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:300]
            raise EngineError(f"{self.url}{path} answered {error.code}: {said}; {_hint(path)}") from error
        except (OSError, ValueError) as error:
            raise EngineError(f"no vLLM server at {self.url} ({error}); {_hint(path)}") from error
        try:
            return json.loads(text) if text.strip() else None
        except ValueError as error:
            raise EngineError(f"{self.url}{path} answered something else than JSON") from error


def _hint(path: str) -> str:
    if path == "/inference/v1/generate":
        return "it must be started with --enable-scale-out"
    if path in ("/collective_rpc", "/reset_prefix_cache"):
        return "it must be started with VLLM_SERVER_DEV_MODE=1"
    return "start one with `vllm serve`, see docs/vllm.md"
