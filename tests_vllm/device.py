"""The processor as the GPU's default runner calls it, with that runner's buffers faked on a CPU.

No GPU runner was run: this shows that the arithmetic is right, given buffers as vLLM documents them.
"""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm import SamplingParams
from vllm.v1.worker.gpu.sample.logits_processor import LogitsContext

from earl.sampling.vllm.arguments import GrammarArguments
from earl.sampling.vllm.processor import GrammarProcessor
from earl.sequence.grammar import GrammarState
from earl.sequence.tokenizer import TextTokenizer

SLOTS, LONGEST = 12, 400
FORMS = [
    GrammarArguments(earl_grid="2*3"),
    GrammarArguments(earl_grid="5*1"),
    GrammarArguments(earl_prefill="direct"),
    GrammarArguments(earl_prefill="direct", earl_grid="3*3"),
    GrammarArguments(earl_prefill="reasoning", earl_max_text_tokens=9),
    GrammarArguments(earl_prefill="reasoning", earl_grid="2*2", earl_max_text_tokens=9),
    GrammarArguments(earl_prefill="free", earl_max_text_tokens=30),
    None,
]


class FakeRunner:
    """Slots, buffers and a sampler like the runner's; each step its rows come in another order."""

    def __init__(self, tokenizer: TextTokenizer, seed: int) -> None:
        self.rng, self.vocabulary, self.tokenizer = random.Random(seed), tokenizer.vocabulary, tokenizer
        self.ids = torch.zeros((SLOTS, LONGEST), dtype=torch.int32)
        self.prompt = torch.zeros(SLOTS, dtype=torch.int32)
        self.total = torch.zeros(SLOTS, dtype=torch.int32)
        self.states = SimpleNamespace(
            device=torch.device("cpu"),
            max_num_reqs=SLOTS,
            vocab_size=self.vocabulary.size,
            all_token_ids=SimpleNamespace(gpu=self.ids),
            prompt_len=SimpleNamespace(gpu=self.prompt),
            total_len=SimpleNamespace(gpu=self.total),
        )
        config = SimpleNamespace(
            model_config=SimpleNamespace(architectures=["LlamaForCausalLM"]), additional_config={}
        )
        self.processor = GrammarProcessor(config, self.states)
        assert self.processor.tokenizer is None, "another kind of model has no grammar"
        self.processor = _with_tokenizer(tokenizer, self.states)
        self.running: dict[int, GrammarState | None] = {}

    def admit(self, form: GrammarArguments | None) -> None:
        slot = self.rng.choice([slot for slot in range(SLOTS) if slot not in self.running])
        length = self.rng.randrange(1, 40)
        self.ids[slot] = self.rng.randrange(self.vocabulary.size)  # what an earlier request left
        self.prompt[slot] = self.total[slot] = length
        extra = form.to_extra_args() if form else {"unrelated": 1}
        ours = self.processor.add_request(slot, SamplingParams(extra_args=extra))
        assert ours == (form is not None)
        self.running[slot] = form.grammar(self.tokenizer).start() if form else None

    def step(self, drafts: int) -> int:
        """One step; with `drafts`, each request has a row for each of its drafted ids as well."""
        self.processor.apply_staged_writes()
        order = list(self.running)
        self.rng.shuffle(order)
        rows: list[tuple[int, int, int, GrammarState | None]] = []  # slot, local place, input id, state
        for slot in order:
            state = self.running[slot]
            state = state.copy() if state else None
            token = int(self.ids[slot, self.total[slot] - 1])
            for local in range(drafts + 1):
                rows.append((slot, local, token, state.copy() if state else None))
                token = self.choose(state)
                if state is not None and not state.done:
                    state.advance(token)
        slots = torch.tensor([slot for slot, *_ in rows], dtype=torch.int32)
        local = torch.tensor([place for _, place, *_ in rows], dtype=torch.int32)
        context = LogitsContext(
            expanded_idx_mapping=slots,
            idx_mapping=torch.tensor(order, dtype=torch.int32),
            idx_mapping_np=np.array(order),
            expanded_local_pos=local,
            input_ids=torch.tensor([token for _, _, token, _ in rows], dtype=torch.int32),
            pos=(self.total[slots.long()] - 1 + local).long(),
            seq_lens_upper_bound_np=np.array([int(self.total[slot]) + drafts for slot in order]),
        )
        logits = torch.randn(len(rows), self.vocabulary.size)
        kept = self.processor.apply(logits.clone(), context)
        for row, (_, _, _, state) in enumerate(rows):
            low, high = self.expected(state)
            inside = torch.zeros(self.vocabulary.size, dtype=torch.bool)
            inside[low:high] = True
            assert torch.equal(kept[row][inside], logits[row][inside])
            assert torch.isneginf(kept[row][~inside]).all()
        for slot in order:
            state = self.running[slot]
            token = self.choose(state)
            self.ids[slot, self.total[slot]] = token
            self.total[slot] += 1
            ended = int(self.total[slot] - self.prompt[slot]) > 120
            if state is not None:
                ended = state.done
                if not ended:
                    state.advance(token)
            if ended:
                del self.running[slot]
        return len(rows)

    def choose(self, state: GrammarState | None) -> int:
        """Sizes are written now and then; anything else is drawn from what is allowed."""
        if state is None or state.done:
            return self.rng.randrange(self.vocabulary.first_special)
        kind, forced = state.allowed
        if kind == "forced":
            assert forced is not None
            return forced
        if kind == "text" and self.rng.random() < 0.8:
            signs = [*self.tokenizer.encode("3*2"), self.vocabulary.img, self.vocabulary.boi]
            return self.rng.choice(signs)
        low, high = self.expected(state)
        return self.rng.randrange(low, high)

    def expected(self, state: GrammarState | None) -> tuple[int, int]:
        v = self.vocabulary
        if state is None:
            return 0, v.size
        kind, forced = state.allowed
        if kind == "text":
            return 0, v.first_visual
        if kind == "visual":
            return v.first_visual, v.first_visual + v.codebook_size
        token = v.eos if forced is None else forced
        return token, token + 1


def _with_tokenizer(tokenizer: TextTokenizer, states: Any) -> GrammarProcessor:
    """The processor as it is made for an Emu3 policy, whose tokenizer lies in a folder."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        model = SimpleNamespace(architectures=["Emu3ForCausalLM"], tokenizer="nowhere", model="nowhere")
        config = SimpleNamespace(model_config=model, additional_config={"earl_tokenizer": folder})
        return GrammarProcessor(config, states)


def steps_keep_to_the_grammar(tokenizer: TextTokenizer) -> str:
    """Requests of all forms come and go through recycled slots; every row of every step is compared."""
    rows = 0
    for drafts in (0, 2):
        runner = FakeRunner(tokenizer, drafts)
        admitted = 0
        for _ in range(150):
            while admitted < 60 and len(runner.running) < SLOTS - 2:
                runner.admit(FORMS[admitted % len(FORMS)])
                admitted += 1
            if not runner.running:
                break
            rows += runner.step(drafts)
        assert admitted == 60
    return f"{rows} rows of logits equal the automaton's, with drafts and recycled slots (no GPU was used)"
