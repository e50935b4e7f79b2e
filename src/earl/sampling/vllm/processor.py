"""The image grammar inside vLLM, for requests that ask for it (see `arguments`).

One class for both of vLLM's runners. The CPU's, and the GPU's older one, call `apply(logits)` and
give each request's output ids as a list that lives: the automaton follows it. The GPU's default one
calls `apply(logits, ctx)` and keeps all ids on the device: `ranges` reads them there, so that no step
makes the host wait. vLLM finds the class through the entry point `vllm.logits_processors`.

This module is loaded by vLLM alone, and is the only one here that imports it at the top.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm.logger import init_logger
from vllm.v1.sample.logits_processor.interface import LogitsProcessor as HostProcessor
from vllm.v1.sample.logits_processor.interface import MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as DeviceProcessor

from earl.errors import EarlError, SequenceError, TokenizerError
from earl.models.resolve import resolve_model
from earl.sampling.vllm.arguments import GrammarArguments
from earl.sampling.vllm.plugin import ARCHITECTURE
from earl.sampling.vllm.ranges import GrammarTable, keep_within_
from earl.sequence.grammar import GrammarState
from earl.sequence.tokenizer import TextTokenizer

TOKENIZER_KEY = "earl_tokenizer"
logger = init_logger("vllm.earl")


class _Followed:
    """One request of the host's runner: its automaton, and how much of its output that has read."""

    def __init__(self, state: GrammarState, output: list[int]) -> None:
        self.state, self.output, self.read = state, output, 0

    def allowed(self) -> tuple[int, int]:
        """Lowest id allowed, and the first above that is not."""
        vocabulary = self.state.grammar.tokenizer.vocabulary
        while self.read < len(self.output) and not self.state.done:
            token = self.output[self.read]
            if token < 0:
                raise RuntimeError(
                    "vLLM schedules ahead of its sampler here, so the grammar cannot see what was sampled; "
                    "start it with --no-async-scheduling"
                )
            try:
                self.state.advance(token)
            except SequenceError as error:  # another processor left nothing of what is allowed
                logger.warning("a completion broke its grammar and is ended: %s", error)
                return vocabulary.eos, vocabulary.eos + 1
            self.read += 1
        kind, forced = self.state.allowed
        if kind == "text":
            return 0, vocabulary.first_visual
        if kind == "visual":
            return vocabulary.first_visual, vocabulary.first_visual + vocabulary.codebook_size
        token = vocabulary.eos if forced is None else forced
        return token, token + 1


class GrammarProcessor(HostProcessor, DeviceProcessor):
    """Keeps the logits of our requests within the grammar; those of others are not touched.

    Args:
        vllm_config: of the engine. Its `additional_config["earl_tokenizer"]`, else its tokenizer or
            model, names the folder with the text tokenizer.
        place: a device (host's runner) or the device runner's request states.

    Raises:
        TokenizerError: an Emu3 policy without a usable text tokenizer.
    """

    def __init__(self, vllm_config: Any, place: Any, is_pin_memory: bool = False) -> None:
        self.tokenizer = find_tokenizer(vllm_config)
        self._followed: dict[int, _Followed] = {}
        self._states = None if isinstance(place, torch.device | str) else place
        self._table: GrammarTable | None = None
        if self._states is not None and self.tokenizer is not None:
            self._table = GrammarTable(self.tokenizer, self._states.max_num_reqs, self._states.device)

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Raises ConfigError, a ValueError, for a grid or form that cannot be."""
        GrammarArguments.read(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        return False

    # The host's runner

    def update_state(self, batch_update: Any) -> None:
        """Follow requests as they come, go and move; `batch_update` is None where none did."""
        if batch_update is None:
            return
        rows = self._followed
        for index in batch_update.removed:
            rows.pop(index, None)
        for index, params, _, output in batch_update.added:
            rows.pop(index, None)
            grammar = self._grammar(params)
            if grammar is not None:
                rows[index] = _Followed(grammar.start(), output)
        for source, target, direction in batch_update.moved:
            moved, met = rows.pop(source, None), rows.pop(target, None)
            if moved is not None:
                rows[target] = moved
            if met is not None and direction == MoveDirectionality.SWAP:
                rows[source] = met

    def _apply_on_host(self, logits: Tensor) -> Tensor:
        if not self._followed:
            return logits
        ranges = [self._followed[row].allowed() for row in self._followed]
        rows = torch.tensor(list(self._followed), device=logits.device)
        low, high = torch.tensor(ranges, device=logits.device).unbind(1)
        logits[rows] = keep_within_(logits[rows], low, high)
        return logits

    # The device's runner

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        grammar = self._grammar(sampling_params)
        if self._table is not None:
            self._table.put(req_idx, grammar)
        return grammar is not None

    def apply_staged_writes(self) -> None:
        if self._table is not None:
            self._table.flush()

    def _apply_on_device(self, logits: Tensor, ctx: Any) -> Tensor:
        table, states = self._table, self._states
        if table is None or states is None or not table.active_S[ctx.idx_mapping_np].any():
            return logits
        slots_R = ctx.expanded_idx_mapping.long()
        prompt_R = states.prompt_len.gpu[slots_R].long()
        at_W = torch.arange(table.window(ctx.idx_mapping_np), device=logits.device)
        place_RW = prompt_R[:, None] + at_W
        all_ids = states.all_token_ids.gpu
        ids_RW = all_ids[slots_R[:, None], place_RW.clamp_max(all_ids.shape[1] - 1)]
        # What is drafted and not yet accepted stands among the inputs only, one row for each.
        row_R = torch.arange(len(slots_R), device=logits.device)
        drafted_RW = (row_R - ctx.pos.long())[:, None] + place_RW
        committed_RW = place_RW < states.total_len.gpu[slots_R].long()[:, None]
        drafts_RW = ctx.input_ids[drafted_RW.clamp(0, len(slots_R) - 1)]
        ids_RW = torch.where(committed_RW, ids_RW.long(), drafts_RW.long())
        low, high = table.ranges(slots_R, ctx.pos.long() + 1 - prompt_R, ids_RW)
        return keep_within_(logits, low, high)

    # Both

    def apply(self, logits: Tensor, ctx: Any = None) -> Tensor:
        """Both runners' entry; logits (R, V), changed in place."""
        return self._apply_on_host(logits) if ctx is None else self._apply_on_device(logits, ctx)

    def _grammar(self, params: Any) -> Any:
        arguments = GrammarArguments.read(getattr(params, "extra_args", None))
        if arguments is None:
            return None
        if self.tokenizer is None:
            logger.warning_once("a request asks for an image grammar, which this model has not; ignored")
            return None
        return arguments.grammar(self.tokenizer)


def find_tokenizer(vllm_config: Any) -> TextTokenizer | None:
    """The text tokenizer of the policy that vLLM runs; None where it runs another kind of model."""
    model = vllm_config.model_config
    if ARCHITECTURE not in (getattr(model, "architectures", None) or ()):
        return None
    named = (getattr(vllm_config, "additional_config", None) or {}).get(TOKENIZER_KEY)
    places = [named] if named else [model.tokenizer, model.model, str(Path(model.model).parent)]
    problem: EarlError | None = None
    for place in dict.fromkeys(place for place in places if place):
        try:
            return TextTokenizer.from_folder(resolve_model(place, parts=("tokenizer",)).need("tokenizer"))
        except EarlError as error:
            problem = problem or error
    raise TokenizerError(
        f"vLLM runs an Emu3 policy whose text tokenizer is not found ({problem}); name it with "
        f"--tokenizer, or additional_config {{{TOKENIZER_KEY!r}: FOLDER}}"
    )
