"""vLLM in this process, with the face of `earl.sampling.Engine`.

What differs: a seed gives the same completion again, but not the one our own engine gives; and where
top-k or top-p cut candidates off, log-probabilities are of what is left, which is what was sampled.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from earl.errors import EngineError, MissingExtraError, SequenceError
from earl.models.resolve import read_json
from earl.policy import load_policy, policy_of
from earl.policy.configs import read_config
from earl.policy.weights import iterate_weights
from earl.records import Completion
from earl.sampling import Request, Sampling
from earl.sampling.vllm.reading import OnCompletion, OnRow, Sample, grouped, make_samples, refuse_guidance
from earl.sampling.vllm.weights import current_weights, write_config
from earl.sequence import TextTokenizer

PROCESSOR = "earl.sampling.vllm.processor:GrammarProcessor"
_GIB = 2**30
_BLOCK = 32  # ids; vLLM shares whole blocks of a prompt, and on a CPU its own choice is 128


class VllmEngine:
    """Samples completions with vLLM.

    Args:
        policy: an Emu3ForCausalLM, with or without LoRA, whose weights as they are go to vLLM at each
            call; or the folder of a policy in the released or the transformers layout.
        tokenizer: its text tokenizer.
        max_batch: most samples in progress at once.
        dtype: to compute in; None takes the weights' own.
        memory: share of the GPU that vLLM may take for weights and cache.
        sleep: give the GPU's memory back between calls.
        options: for `vllm.LLM`, where its defaults or ours do not fit.

    Attributes:
        policy: with a `config`, as our own engine's.

    Raises:
        MissingExtraError: vLLM is not installed.
        EngineError: vLLM could not start.
        SequenceError: policy and tokenizer are not of one model.
    """

    def __init__(
        self,
        policy: Any,
        tokenizer: TextTokenizer,
        *,
        max_batch: int = 128,
        dtype: torch.dtype | None = None,
        memory: float = 0.4,
        sleep: bool = False,
        **options: Any,
    ) -> None:
        if max_batch < 1:
            raise SequenceError(f"max_batch must be at least 1, got {max_batch}")
        vllm = import_vllm()
        live = not isinstance(policy, str | Path)
        self._live = policy if live else None
        self.policy = policy_of(policy) if live else SimpleNamespace(config=read_config(Path(policy)))
        config = self.policy.config
        self.tokenizer, self.vocabulary = tokenizer, tokenizer.vocabulary
        if config.vocab_size < self.vocabulary.size:
            raise SequenceError(
                f"the policy has {config.vocab_size} ids, its tokenizer {self.vocabulary.size}; "
                "they are not of one model"
            )
        self.max_batch, self.sleep = max_batch, sleep
        self.max_positions = int(config.max_position_embeddings)
        self._home = tempfile.TemporaryDirectory(prefix="earl-vllm-")
        folder = Path(self._home.name)
        tokenizer.save(folder)
        settings: dict[str, Any] = {
            "model": str(policy),
            "dtype": _name(dtype) if dtype else _stored_dtype(self.policy, policy, live),
            "skip_tokenizer_init": True,
            "generation_config": "vllm",
            "max_model_len": self.max_positions,
            "max_num_seqs": max_batch,
            "block_size": _BLOCK,
            "logprobs_mode": "processed_logprobs",
            "additional_config": {"earl_tokenizer": str(folder)},
            "disable_log_stats": True,
            "enable_sleep_mode": sleep,
        }
        if live:
            write_config(policy, folder)
            settings |= {"model": str(folder), "load_format": "dummy"}
        if torch.cuda.is_available():
            settings["gpu_memory_utilization"] = memory
        else:
            settings["kv_cache_memory_bytes"] = _cache_bytes(config, max_batch)
            settings["enforce_eager"] = True  # compiling a small model costs more than it gains
        if "earl" not in {point.name for point in entry_points(group="vllm.logits_processors")}:
            settings["logits_processors"] = [PROCESSOR]
        import_module("earl.sampling.vllm.plugin").register()
        try:
            self.llm = vllm.LLM(**(settings | options))
        except Exception as error:  # vLLM raises many kinds; the cause stays chained
            raise EngineError(f"vLLM could not start with this policy: {error}") from error
        self._calls = 0
        if sleep:
            self.llm.sleep(level=2 if live else 1)

    def generate(
        self,
        requests: Sequence[Request],
        sampling: Sampling | None = None,
        on_row: OnRow | None = None,
        on_completion: OnCompletion | None = None,
    ) -> list[list[Completion]]:
        """Complete every request once per seed; see `earl.sampling.Engine.generate`.

        Raises:
            SequenceError: ids outside the vocabulary, or an image too long for the model's positions.
            ConfigError: guidance, which vLLM cannot do.
            EngineError: vLLM left the grammar, or did not take the weights.
        """
        sampling = sampling or Sampling()
        refuse_guidance(sampling)
        samples = list(make_samples(requests, self.tokenizer, self.max_positions, on_row))
        if self.sleep:
            self.llm.wake_up()
        self.refresh()
        try:
            return grouped(requests, self._run(samples, sampling, on_row is not None, on_completion))
        finally:
            if self.sleep:
                self.llm.sleep(level=2 if self._live is not None else 1)

    def refresh(self) -> None:
        """Give vLLM the policy's weights as they are now, and let it forget what it cached with others.

        Raises:
            EngineError: it did not forget.
        """
        if self._live is None:
            return
        weights = iter(current_weights(self._live))
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if not self.llm.reset_prefix_cache():
            raise EngineError(
                "vLLM kept its prefix cache, which belongs to the weights before; start it again"
            )

    def _run(
        self, samples: list[Sample], sampling: Sampling, stream: bool, on_completion: OnCompletion | None
    ) -> dict[int, Completion]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY
        engine, finished = self.llm.llm_engine, {}
        self._calls += 1
        waiting = {f"earl-{self._calls}-{sample.index}": sample for sample in samples}
        for name, sample in waiting.items():
            settings = SamplingParams(**sample.parameters(sampling, self.max_positions), output_kind=kind)
            engine.add_request(name, {"prompt_token_ids": list(sample.request.prompt)}, settings)
        try:
            while waiting:
                for output in engine.step():
                    sample, piece = waiting[output.request_id], output.outputs[0]
                    ids = list(piece.token_ids)
                    table = piece.logprobs or [{}] * len(ids)
                    sample.take(ids, [row[token].logprob for row, token in zip(table, ids, strict=True)])
                    if output.finished:
                        del waiting[output.request_id]
                        finished[sample.index] = sample.completion()
                        if on_completion is not None:
                            on_completion(sample.index, finished[sample.index])
        finally:
            if waiting:  # something went wrong: nothing is left behind for the next call
                engine.abort_request(list(waiting))
        return finished


def servable(folder: Path) -> Any:
    """The folder where vLLM reads it as it lies; else (LoRA, the full -hf layout) the loaded policy."""
    adapter = (folder / "adapter_config.json").is_file()
    plain = not adapter and read_json(folder / "config.json").get("model_type") in ("Emu3", "emu3_text_model")
    return folder if plain else load_policy(folder)


def import_vllm() -> Any:
    """The module. Raises MissingExtraError where it is not installed.

    It is told to run in this process, where weights can be handed over without a copy on disk, and to
    keep usage statistics and its many lines of log to itself, unless the environment says otherwise.
    """
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        return import_module("vllm")
    except ImportError as error:
        if error.name not in (None, "vllm"):
            raise MissingExtraError(
                f"vLLM is installed but lacks {error.name}; pip install 'earl[vllm]'"
            ) from error
        raise MissingExtraError("vLLM is not installed; pip install 'earl[vllm]'") from error


def _stored_dtype(policy: Any, folder: Any, live: bool) -> str:
    """vLLM's own "auto" would make half precision of float32."""
    if live:
        return _name(policy.lm_head.weight.dtype)
    return _name(next(iterate_weights(Path(folder)))[1].dtype)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _cache_bytes(config: Any, max_batch: int) -> int:
    """Of a CPU's cache: for all samples at a quarter of the model's positions, 4 GiB at most, and one
    whole sequence at least."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * head  # float32 at most
    positions = config.max_position_embeddings
    return max(min(token * positions * max_batch // 4, 4 * _GIB), 2 * token * positions)
