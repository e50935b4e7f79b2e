"""vLLM in this process, as an `earl.sampling.Engine`.

Unlike the native engine: a seed gives the same completion again, but not the one that the native engine
gives; and where top-k or top-p cut candidates off, log-probabilities are of what is left, which is what
was sampled from.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import torch

from earl.config import SamplingSettings
from earl.errors import EngineError, MissingExtraError
from earl.models.resolve import read_json
from earl.policy.configs import read_config
from earl.policy.likelihood import policy_of
from earl.policy.loading import load_policy
from earl.policy.weights import iterate_weights
from earl.sampling.vllm.base import VllmBase, VllmSample
from earl.sampling.vllm.weights import current_weights, write_config
from earl.sequence.tokenizer import TextTokenizer

PROCESSOR = "earl.sampling.vllm.processor:GrammarProcessor"
_GIB = 2**30
_BLOCK = 32  # ids; vLLM shares whole blocks of a prompt, and on a CPU its own choice is 128


class VllmEngine(VllmBase):
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

    Raises:
        MissingExtraError: vLLM is not installed.
        EngineError: vLLM could not start.
        ModelFormatError: policy and tokenizer are not of one model.
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
        vllm = import_vllm()
        stored = isinstance(policy, str | Path)
        self._live = None if stored else policy
        config = read_config(Path(policy)) if stored else policy_of(policy).config
        super().__init__(config, tokenizer, max_batch)
        self._sleeps = sleep
        self._home = tempfile.TemporaryDirectory(prefix="earl-vllm-")
        folder = Path(self._home.name)
        tokenizer.save(folder)
        settings: dict[str, Any] = {
            "model": str(policy if stored else folder),
            "dtype": str(dtype or _own_dtype(policy)).removeprefix("torch."),
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
        if not stored:
            write_config(policy, folder)
            settings["load_format"] = "dummy"
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
            self._sleep()

    def refresh(self) -> None:
        """Give vLLM the policy's weights as they are now, and let it forget what it cached with others.

        Raises:
            EngineError: it kept its cache.
        """
        if self._live is None:
            return
        weights = iter(current_weights(self._live))
        self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        if not self.llm.reset_prefix_cache():
            raise EngineError(
                "vLLM kept its prefix cache, which belongs to the weights before; start it again"
            )

    @contextmanager
    def _awake(self) -> Iterator[None]:
        if self._sleeps:
            self.llm.wake_up()
        try:
            yield
        finally:
            if self._sleeps:
                self._sleep()

    def _sleep(self) -> None:
        self.llm.sleep(level=1 if self._live is None else 2)  # 2 drops weights that come anew at each call

    def _run(
        self, samples: Sequence[VllmSample], sampling: SamplingSettings
    ) -> Generator[VllmSample, None, None]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        stream = any(sample.on_row for sample in samples)
        kind = RequestOutputKind.DELTA if stream else RequestOutputKind.FINAL_ONLY
        engine = self.llm.llm_engine
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
                        yield sample
        finally:
            if waiting:  # something went wrong: nothing is left behind for the next call
                engine.abort_request(list(waiting))


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
                f"vLLM is installed but lacks {error.name}; pip install 'earl-edit[vllm]'"
            ) from error
        raise MissingExtraError("vLLM is not installed; pip install 'earl-edit[vllm]'") from error


def _own_dtype(policy: Any) -> torch.dtype:
    """Dtype of the weights. vLLM's own "auto" would make half precision of float32."""
    if isinstance(policy, str | Path):
        return next(iterate_weights(Path(policy)))[1].dtype
    return policy_of(policy).lm_head.weight.dtype


def _cache_bytes(config: Any, max_batch: int) -> int:
    """Size of a CPU's cache: all samples at a quarter of the model's positions, but at most 4 GiB and at
    least two whole sequences."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * head  # float32 at most
    positions = config.max_position_embeddings
    return int(max(min(token * positions * max_batch // 4, 4 * _GIB), 2 * token * positions))
