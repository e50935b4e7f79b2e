"""Our engine against `transformers.generate` and vLLM: same weights, same prompts, same grammar.

    python -m benchmarks.generation [--prompts 16] [--group 8] [--side 8] [--repeats 2] [--edits 24]

A policy of hidden 256 and 6 layers (the shipped size) with random weights completes images of
`--side` x `--side` tokens, greedy: `--prompts` prompts with `--group` completions each (by default 16
with 8, the batch of one published RL step). In float32 all must write the same ids, which is
asserted; in bfloat16 sums of another order round differently and greedy paths part. The prefix
function is the plain way to hold transformers to the grammar: it looks up, for the length reached,
the list of ids allowed there. vLLM keeps to it by our logits processor, in the environment that has it
(`_vllm.py`); where none has, a line says so. Times are CPU seconds of the process that computes (with
one thread: wall seconds of an idle machine), the best of the repeats; loading is not in them.

Then the shipped model makes `--edits` edits of the world's test split one after another, as `earl edit`
does, at its temperature: ours with the source as a draft, ours without, and transformers, whose multinomial
draw is replaced by our noise (a logits processor adds it), so that all must write the same ids.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np
import torch
import transformers
from PIL import Image

from benchmarks import _vllm
from earl.config import SamplingSettings
from earl.pipeline import EditPipeline
from earl.policy.devices import native_bf16
from earl.policy.loading import create_policy, load_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.draw import gumbel_noise, stream_keys
from earl.sampling.native.engine import NativeEngine
from earl.sequence.grammar import Grammar
from earl.sequence.layout import write_prompt
from earl.sequence.trained import train_text_tokenizer
from earl.world.benchmark import WorldBenchmark, draw_tasks
from earl.world.rendering import render

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


def compare(options: argparse.Namespace, dtype: torch.dtype, python: str | None) -> float:
    """Run all in one dtype, print the speeds, return how much faster than transformers ours is."""
    grid = Grid(options.side, options.side)
    tokenizer = train_text_tokenizer(TEXTS, size=512, codebook_size=512)
    model = create_policy("small", tokenizer.vocabulary, seed=0)
    with torch.no_grad():  # loud enough that no two candidates are within a float32 rounding of each other
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(3)
    model.to(dtype)
    prompts, lists = make_prompts(options.prompts, grid, tokenizer), allowed_lists(grid, tokenizer)
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

    engine = NativeEngine(model, tokenizer, max_batch=count)
    requests = [Request(prompt, tuple(range(options.group)), grid) for prompt in prompts]

    def ours() -> list[tuple[int, ...]]:
        return [c.ids for group in engine.generate(requests, SamplingSettings(greedy=True)) for c in group]

    ours()
    ours_seconds, ours_ids = timed(ours, 2 * options.repeats)
    theirs_seconds, theirs_ids = timed(theirs, options.repeats)
    rows = [("transformers.generate", theirs_seconds, theirs_ids, "")]
    if python:
        found = _vllm.measure(
            python, model, tokenizer, requests, repeats=options.repeats, threads=options.threads
        )
        rows.append(("vLLM", found.seconds, found.ids, " (on a GPU, wall time)" if found.on_gpu else ""))
    name = str(dtype).removeprefix("torch.")
    print(f"{name}: {count} completions of {len(lists)} ids, {options.prompts} prompts of {length} ids")
    tokens = count * len(lists)
    print(f"  {'earl.sampling':21} {ours_seconds:7.2f} s {tokens / ours_seconds:8.0f} tokens/s")
    for label, seconds, ids, note in rows:
        agree = sum(a == b for a, b in zip(ours_ids, ids, strict=True))
        print(
            f"  {label:21} {seconds:7.2f} s {tokens / seconds:8.0f} tokens/s{note}; ours is "
            f"{seconds / ours_seconds:.1f} times as fast; equal completions {agree} of {count}",
            flush=True,
        )
        assert dtype != torch.float32 or agree == count, f"{label}: only {agree} of {count} are equal"
    if python and dtype == torch.float32:
        print(f"  ({found.versions})", flush=True)
    return theirs_seconds / ours_seconds


class Noise(transformers.LogitsProcessor):
    """Our draw for `transformers.generate`: the grammar's columns, the ids' noise, then the largest."""

    def __init__(self, lists: list[list[int]], length: int, seed: int) -> None:
        self.lists, self.length, self.seed = lists, length, seed

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        at = input_ids.shape[1] - self.length
        ids = torch.tensor(self.lists[at], dtype=torch.int32)
        noise = gumbel_noise(stream_keys([self.seed], [at]), ids[None])
        out = torch.full_like(scores, float("-inf"))
        out[:, ids.long()] = scores[:, ids.long()] + noise
        return out


def one_by_one(options: argparse.Namespace) -> float:
    """Edits of the shipped model, one at a time in float32; how much faster than transformers ours is."""
    pipeline = EditPipeline.from_pretrained("world", dtype="float32", device="cpu")
    tokenizer, model = pipeline.tokenizer, load_policy("world", dtype="float32")
    side = round(pipeline.vision.area**0.5)
    requests = []
    for seed, task in enumerate(draw_tasks(WorldBenchmark(num=options.edits, seed=0))):
        [codes] = pipeline.vision.encode([Image.fromarray(render(task.source, side))])
        prompt = tuple(write_prompt(codes, task.instruction, tokenizer))
        draft = tuple(codes.ravel().tolist())
        requests.append(Request(prompt, (seed,), Grid(*map(int, codes.shape)), draft=draft))
    assert requests[0].grid is not None
    lists = allowed_lists(requests[0].grid, tokenizer)
    sampling = SamplingSettings(top_k=0)

    def theirs() -> list[tuple[int, ...]]:
        found = []
        for request in requests:
            ids = torch.tensor([request.prompt])
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=len(lists),
                logits_processor=[Noise(lists, len(request.prompt), request.seeds[0])],
            )
            found.append(tuple(out[0, len(request.prompt) :].tolist()))
        return found

    def ours(engine: NativeEngine) -> list[tuple[int, ...]]:
        return [engine.generate([request], sampling)[0][0].ids for request in requests]

    engines = {
        "with drafts": NativeEngine(model, tokenizer, frozen=True),
        "without": NativeEngine(model, tokenizer, frozen=True, step_tokens=0),
    }
    timings, steps = {}, {}
    for label, engine in engines.items():
        ours(engine)
        engine.steps = 0
        timings[label] = timed(functools.partial(ours, engine), options.repeats)
        steps[label] = engine.steps / options.repeats / len(requests)
    theirs_seconds, theirs_ids = timed(theirs, options.repeats)
    count = len(requests)
    print(f"float32: {count} edits by the shipped model, one at a time, {len(lists)} ids each")
    for label, (seconds, ids) in timings.items():
        agree = sum(a == b for a, b in zip(ids, theirs_ids, strict=True))
        print(
            f"  {'earl.sampling':21} {1000 * seconds / count:7.0f} ms an edit {label},"
            f" {steps[label]:.1f} steps; {theirs_seconds / seconds:.1f} times as fast as transformers;"
            f" equal completions {agree} of {count}"
        )
        assert agree == count, f"{label}: only {agree} of {count} are equal"
    print(f"  {'transformers.generate':21} {1000 * theirs_seconds / count:7.0f} ms an edit", flush=True)
    return theirs_seconds / timings["with drafts"][0]


def main(arguments: list[str] | None = None) -> float:
    """Print the speeds and their ratios in float32, in bfloat16 where the CPU has it natively, and for edits
    made one by one; the largest of ours to transformers' is returned."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=16, help="different prompts")
    parser.add_argument("--group", type=int, default=8, help="completions per prompt")
    parser.add_argument("--side", type=int, default=8, help="rows and columns of the image, in tokens")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each; the best counts")
    parser.add_argument("--edits", type=int, default=24, help="edits by the shipped model; 0 leaves them out")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    python = _vllm.find_python()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    if python is None:
        print(
            "vLLM is not measured: it is not installed here, nor in .venv-vllm (make test-vllm builds that)"
        )
    dtypes = [torch.float32]
    if native_bf16(torch.device("cpu")):
        dtypes.append(torch.bfloat16)
    else:
        print("bfloat16 is not measured: this CPU only emulates it")
    ratios = [compare(options, dtype, python) for dtype in dtypes]
    if options.edits:
        ratios.append(one_by_one(options))
    return max(ratios)


if __name__ == "__main__":
    main()
