"""Our engine against `transformers.generate` with a prefix function: same weights, prompts, outputs.

    python benchmarks/generation.py [--prompts 8] [--group 8] [--dtype float32] [--threads 1]

A policy of hidden 256 and 6 layers (the shipped size) with random weights completes 8 x 8 images:
`--prompts` prompts with `--group` completions each, greedy, so that both must write the same ids,
which is asserted. The prefix function is the plain way to hold transformers to the grammar: it
looks up, for the length reached, the list of ids allowed there. About a minute on one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from earl.generation import Engine, Request, Sampling
from earl.policy import create_policy
from earl.records import Grid
from earl.sequence import Grammar, train_text_tokenizer, write_prompt

TEXTS = ["make the big cube red", "add a green ball left of the cone", "remove the blue ring", "8*8"]


def make_prompts(count: int, grid: Grid, tokenizer) -> list[tuple[int, ...]]:
    """Prompts of one length, so that transformers needs no padding."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, tokenizer.vocabulary.codebook_size, (count, grid.height, grid.width))
    return [tuple(write_prompt(each, TEXTS[1], tokenizer)) for each in codes]


def allowed_lists(grid: Grid, tokenizer) -> list[list[int]]:
    """Per position of the completion, the ids that the grammar allows there."""
    vocabulary = tokenizer.vocabulary
    visual = list(range(vocabulary.first_visual, vocabulary.first_visual + vocabulary.codebook_size))
    state, lists = Grammar(tokenizer, "size", grid).start(), []
    while not state.done:
        kind, forced = state.allowed
        lists.append(visual if kind == "visual" else [forced])
        state.advance(lists[-1][0])
    return lists


def timed(what: Callable[[], list[tuple[int, ...]]], repeats: int) -> tuple[float, list[tuple[int, ...]]]:
    """Best wall time of some runs, in seconds, and the last result."""
    best, result = float("inf"), []
    for _ in range(repeats):
        start = time.process_time()
        result = what()
        best = min(best, time.process_time() - start)
    return best, result


def main(arguments: list[str] | None = None) -> float:
    """Print both speeds and their ratio, which is returned."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    grid = Grid(options.side, options.side)
    tokenizer = train_text_tokenizer(TEXTS, size=512, codebook_size=512)
    dtype = getattr(torch, options.dtype)
    model = create_policy("small", tokenizer.vocabulary, seed=0, dtype=torch.float32)
    with torch.no_grad():  # loud enough that no two candidates are within a rounding of each other
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
    model.to(dtype)
    prompts = make_prompts(options.prompts, grid, tokenizer)
    lists = allowed_lists(grid, tokenizer)
    length, count = len(prompts[0]), options.prompts * options.group

    def theirs() -> list[tuple[int, ...]]:
        ids = torch.tensor(prompts).repeat_interleave(options.group, dim=0)
        out = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=len(lists),
            prefix_allowed_tokens_fn=lambda _, sent: lists[len(sent) - length],
        )
        return [tuple(row) for row in out[:, length:].tolist()]

    engine = Engine(model, tokenizer, max_batch=count)
    requests = [Request(prompt, tuple(range(options.group)), grid) for prompt in prompts]

    def ours() -> list[tuple[int, ...]]:
        return [c.ids for group in engine.generate(requests, Sampling(greedy=True)) for c in group]

    ours()
    ours_seconds, ours_ids = timed(ours, options.repeats)
    theirs_seconds, theirs_ids = timed(theirs, options.repeats)
    agree = sum(a == b for a, b in zip(ours_ids, theirs_ids, strict=True))
    if options.dtype == "float32":
        assert ours_ids == theirs_ids, f"only {agree} of {count} completions are equal"
    tokens, ratio = count * len(lists), theirs_seconds / ours_seconds
    print(
        f"{count} completions of {len(lists)} ids, {options.prompts} prompts of {length} ids, {options.dtype}"
    )
    print(f"transformers.generate  {theirs_seconds:7.2f} s  {tokens / theirs_seconds:8.0f} tokens/s")
    print(f"earl.generation        {ours_seconds:7.2f} s  {tokens / ours_seconds:8.0f} tokens/s")
    print(f"ratio {ratio:.1f}, equal completions {agree} of {count}")
    return ratio


if __name__ == "__main__":
    main()
