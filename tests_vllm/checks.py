"""What must hold with a real vLLM. Each check returns one line with what it measured, or raises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tests.support.plain_likelihood import token_scores_plain

from earl.config import SamplingSettings
from earl.errors import SequenceError
from earl.records import Completion, Grid
from earl.sampling import Request
from earl.sampling.native.engine import NativeEngine
from earl.sampling.vllm import VllmEngine
from earl.sequence.grammar import Grammar
from earl.sequence.kinds import completion_kinds
from earl.sequence.layout import parse_completion
from earl.sequence.tokenizer import TextTokenizer

from .models import make_policy, make_prompts

GRIDS = (Grid(2, 3), Grid(4, 4), Grid(1, 5), Grid(6, 2))
ALL = SamplingSettings(top_k=0)
GREEDY = SamplingSettings(top_k=0, greedy=True)
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


def plain_logprobs(policy: Any, request: Request, completion: Completion, tokenizer: TextTokenizer) -> list:
    """What the trainer's plain likelihood says of a completion."""
    ids = torch.tensor([[*request.prompt, *completion.ids]])
    kinds = completion_kinds(completion.ids, tokenizer, request.prefill)
    kinds_BT = torch.tensor([[0] * len(request.prompt) + kinds.tolist()])
    with torch.no_grad():
        scores = token_scores_plain(policy, ids, torch.ones_like(ids).bool(), kinds_BT, tokenizer.vocabulary)
    return scores.logprobs_BT[0, len(request.prompt) :].tolist()


def largest_gap(policy: Any, requests: Sequence[Request], groups: Any, tokenizer: TextTokenizer) -> float:
    gaps = [
        abs(mine - theirs)
        for request, group in zip(requests, groups, strict=True)
        for completion in group
        for mine, theirs in zip(
            plain_logprobs(policy, request, completion, tokenizer), completion.logprobs, strict=True
        )
    ]
    return max(gaps)


def requests_of(tokenizer: TextTokenizer, count: int = 4, seeds: int = 2) -> list[Request]:
    prompts = make_prompts(tokenizer, count)
    return [
        Request(prompt, tuple(range(seeds)), GRIDS[number % len(GRIDS)])
        for number, prompt in enumerate(prompts)
    ]


def layout_loads(path: Path, policy: Any, tokenizer: TextTokenizer) -> tuple[VllmEngine, str]:
    """A folder loads, with its own dtype; greedy codes are our engine's; the likelihoods agree."""
    engine = VllmEngine(path, tokenizer, max_batch=64)
    requests = requests_of(tokenizer)
    theirs = engine.generate(requests, GREEDY)
    dtype = policy.lm_head.weight.dtype
    if dtype == torch.float32:
        ours = NativeEngine(policy, tokenizer).generate(requests, GREEDY)
        assert [[c.ids for c in g] for g in theirs] == [[c.ids for c in g] for g in ours]
    sampled = engine.generate(requests, ALL)
    gap = largest_gap(policy, requests, sampled, tokenizer)
    assert gap <= TOLERANCE[dtype], f"log-probabilities differ by {gap:.2g}"
    return engine, f"{dtype}, log-probabilities within {gap:.1e} of ours (allowed {TOLERANCE[dtype]:g})"


def follows_the_grammar(engine: VllmEngine, tokenizer: TextTokenizer) -> str:
    """vLLM's own call with n = 8 and extra_args alone: 16 prompts, 128 completions, 4 grids in one batch."""
    from vllm import SamplingParams

    prompts = make_prompts(tokenizer, 16)
    eos = tokenizer.vocabulary.eos
    grids = [GRIDS[number % len(GRIDS)] for number in range(16)]
    settings = [
        SamplingParams(
            n=8,
            temperature=1.0,
            max_tokens=200,
            stop_token_ids=[eos],
            detokenize=False,
            seed=number,
            extra_args={"earl_prefill": "size", "earl_grid": str(grid)},
        )
        for number, grid in enumerate(grids)
    ]
    outputs = engine.llm.generate([{"prompt_token_ids": list(p)} for p in prompts], settings, use_tqdm=False)
    count, different = 0, set()
    for output, grid in zip(outputs, grids, strict=True):
        assert len(output.outputs) == 8
        for piece in output.outputs:
            parsed = parse_completion(piece.token_ids, tokenizer)
            assert parsed.problem is None and parsed.codes is not None, parsed.problem
            assert parsed.codes.shape == (grid.height, grid.width)
            different.add(tuple(piece.token_ids))
            count += 1
    assert count == 128 and len(different) > 100
    return f"{count} completions of {len(GRIDS)} grids, n = 8: all whole, {len(different)} different"


def other_prefills(engine: VllmEngine, tokenizer: TextTokenizer) -> str:
    """direct, reasoning and free, with and without a grid, beside each other; every id is checked."""
    prompts = make_prompts(tokenizer, 6)
    forms = [(p, g) for p in ("direct", "reasoning", "free") for g in (None, Grid(3, 2))]
    requests = [
        Request(prompt, tuple(range(4)), grid, prefill, max_text_tokens=24)
        for prompt, (prefill, grid) in zip(prompts, forms, strict=True)
    ]
    groups = engine.generate(requests, ALL)
    whole = 0
    for request, group in zip(requests, groups, strict=True):
        for completion in group:
            state = Grammar(tokenizer, request.prefill, request.grid, 24).start()
            for token in completion.ids:
                state.advance(token)
            assert state.done
            whole += state.problem is None
    return f"24 completions of 3 prefills follow the automaton to its end, {whole} of them whole images"


def others_are_untouched(engine: VllmEngine, policy: Any, tokenizer: TextTokenizer) -> str:
    """Greedy text without our keys, beside requests with them: what transformers' logits say."""
    from vllm import SamplingParams

    prompts = make_prompts(tokenizer, 4)
    free = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True, detokenize=False)
    ours = SamplingParams(
        temperature=1.0,
        max_tokens=12,
        detokenize=False,
        extra_args={"earl_grid": [2, 2], "earl_prefill": "size"},
    )
    asked = [{"prompt_token_ids": list(p)} for p in prompts for _ in range(2)]
    outputs = engine.llm.generate(asked, [free, ours] * 4, use_tqdm=False)
    compared = 0
    for prompt, output in zip(prompts, outputs[::2], strict=True):
        ids = list(prompt)
        for token in output.outputs[0].token_ids:
            with torch.no_grad():
                logits = policy(input_ids=torch.tensor([ids])).logits[0, -1].float()
            assert token == int(logits.argmax()), "an unconstrained request was changed"
            ids.append(token)
            compared += 1
    assert all(output.outputs[0].token_ids[0] == tokenizer.vocabulary.boi for output in outputs[1::2])
    return f"{compared} unconstrained ids are the likeliest of all, in a batch with constrained ones"


def wrong_requests_are_refused(engine: VllmEngine, tokenizer: TextTokenizer) -> str:
    """Before anything is sampled, and the engine goes on."""
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    wrong = [{"earl_grid": "0*3"}, {"earl_prefill": "size"}, {"earl_grid": [500, 500]}, {"earl_gird": "2*2"}]
    prompt = {"prompt_token_ids": list(make_prompts(tokenizer, 1)[0])}
    for extra in wrong:
        try:
            engine.llm.generate([prompt], SamplingParams(max_tokens=4, extra_args=extra), use_tqdm=False)
        except VLLMValidationError as error:
            assert "earl_" in str(error), error
        else:
            raise AssertionError(f"{extra} was taken")
    try:
        engine.generate([Request((1,), (0,), Grid(100, 100))])
    except SequenceError as error:
        assert "positions" in str(error)
    else:
        raise AssertionError("an image beyond the model's positions was taken")
    assert engine.generate(requests_of(tokenizer, 1, 1), GREEDY)[0][0].finish_reason == "stop"
    return f"{len(wrong) + 1} wrong requests refused, and the next one served"


def rows_come_in_order(engine: VllmEngine, tokenizer: TextTokenizer) -> str:
    """on_row and on_completion say the same as what is returned."""
    requests, rows, ended = requests_of(tokenizer), {}, {}
    groups = engine.generate(
        requests,
        ALL,
        on_row=lambda sample, row, codes: rows.setdefault(sample, []).append((row, codes)),
        on_completion=lambda sample, completion: ended.update({sample: completion}),
    )
    flat = [completion for group in groups for completion in group]
    assert [ended[index] for index in range(len(flat))] == flat
    for index, completion in enumerate(flat):
        codes = parse_completion(completion.ids, tokenizer).codes
        assert [row for row, _ in rows[index]] == list(range(len(codes)))
        assert np.array_equal(np.stack([codes for _, codes in rows[index]]), codes)
    return f"{sum(map(len, rows.values()))} rows of {len(flat)} completions reported in order"


def weights_update(tokenizer: TextTokenizer) -> str:
    """A live policy is changed in place; the outputs are those of a fresh engine, cached prompts and all."""
    policy, other = make_policy(tokenizer, 3, tied=True), make_policy(tokenizer, 4, tied=True)
    engine = VllmEngine(policy, tokenizer, max_batch=32)
    requests = requests_of(tokenizer)
    before = engine.generate(requests, ALL)
    assert largest_gap(policy, requests, before, tokenizer) <= TOLERANCE[torch.float32]
    assert engine.generate(requests, ALL) == before, "the same seeds gave other completions"
    with torch.no_grad():
        for mine, theirs in zip(policy.parameters(), other.parameters(), strict=True):
            mine.copy_(theirs)
    after = engine.generate(requests, ALL)
    fresh = VllmEngine(other, tokenizer, max_batch=32).generate(requests, ALL)
    assert [[c.ids for c in g] for g in after] == [[c.ids for c in g] for g in fresh]
    assert [[c.ids for c in g] for g in after] != [[c.ids for c in g] for g in before]
    gap = largest_gap(policy, requests, after, tokenizer)
    assert gap <= TOLERANCE[torch.float32]
    return (
        f"{sum(map(len, after))} completions after an update equal a fresh engine's; tied head; gap {gap:.1e}"
    )


def adapters_are_merged(tokenizer: TextTokenizer) -> str:
    """A LoRA adapter's update is part of what vLLM samples from."""
    from earl.policy.adapters import add_lora

    policy = add_lora(make_policy(tokenizer, 5), 4, alpha=16)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    requests = requests_of(tokenizer)
    groups = VllmEngine(policy, tokenizer, max_batch=32).generate(requests, ALL)
    gap = largest_gap(policy, requests, groups, tokenizer)
    with policy.disable_adapter():
        without = largest_gap(policy, requests, groups, tokenizer)
    assert gap <= TOLERANCE[torch.float32] < without
    return f"gap {gap:.1e} with the adapter, {without:.1e} to the base without it"


def grpo_runs(folder: Path, steps: int = 5) -> str:
    """`earl train grpo` in the world: the shipped model, 4 prompts x 4 rollouts, the scene verifier."""
    from earl.cli import main

    recipe = Path(__file__).resolve().parent.parent / "recipes" / "world" / "grpo.toml"
    settings = {
        "rollouts.engine": "vllm",
        "rollouts.group": 4,
        "rollouts.max_batch": 16,
        "batch.global_size": 16,
        "batch.micro_size": 16,
        "length.max_steps": steps,
        "heldout.prompts": 0,
        "precision.compute": "float32",
        "run.device": "cpu",
        "run.tracker": "none",
        "run.folder": folder,
    }
    assert main(["train", "grpo", str(recipe), *(f"{key}={value}" for key, value in settings.items())]) == 0
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    records = [line for line in lines if line["split"] == "train"]
    assert [record["step"] for record in records] == list(range(1, steps + 1))
    gaps = [record["sampler_gap"] for record in records]
    ratios = [record["sampler_ratio"] for record in records]
    assert max(gaps) < 1e-4, f"the trainer and vLLM disagree on what was sampled, by {max(gaps)} nats"
    assert all(abs(ratio - 1) < 1e-4 for ratio in ratios)
    assert all(record["gradient_norm"] > 0 for record in records)
    assert (folder / "model" / "policy" / "model.safetensors").is_file()
    return (
        f"{steps} steps; |trainer - vLLM| {max(gaps):.1e} nats at most, ratio {min(ratios):.6f} to "
        f"{max(ratios):.6f}; weights pushed {steps} times; reward {records[0]['reward']:.2f} to "
        f"{records[-1]['reward']:.2f}"
    )


def a_image_is_edited(folder: Path) -> str:
    """`earl edit --engine vllm` with the shipped model; greedy codes are our engine's."""
    from PIL import Image

    from earl.cli import main
    from earl.world.rendering import render
    from earl.world.tasks import sample_task

    source = folder / "source.png"
    task = sample_task(0, split="test")
    Image.fromarray(render(task.source, 64)).save(source)
    pictures = []
    for engine in ("vllm", "earl"):
        out = folder / f"{engine}.png"
        words = ["edit", str(source), task.instruction, "-o", str(out), "--engine", engine]
        assert main([*words, "--greedy", "--dtype", "float32", "--device", "cpu"]) == 0
        pictures.append(np.asarray(Image.open(out)))
    assert np.array_equal(*pictures)
    return f"{task.instruction!r}: the same image as our engine's, {pictures[0].shape[1]} px"
