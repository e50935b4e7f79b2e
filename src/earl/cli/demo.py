"""`earl demo`: one edit of a world image by the shipped model, before and after side by side."""

from __future__ import annotations

import argparse

from earl.cli import options as shared

TASK = 20  # of the test split, which training never sees
DRAWS = 4  # where the likeliest image is not right


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--out", default="out/demo.png", help="where to write the image")
    parser.add_argument("--task", type=shared.seed, default=TASK, help="another example of the test split")
    parser.add_argument("--instruction", help="ask for something else of the same image")
    shared.add_model(parser)


def run(options: argparse.Namespace) -> int:
    from PIL import Image

    from earl.cli.outputs import claim_images, write_image
    from earl.cli.sheets import side_by_side
    from earl.sequence import check_instruction
    from earl.world import render, sample_task

    # A demo is run again and again; its own image is the one file that is replaced unasked.
    out = claim_images(options.out, 1, force=True)[0]
    task = sample_task(options.task, "test", None if options.instruction else ["color"])
    instruction = check_instruction(options.instruction or task.instruction)
    pipeline = shared.load_pipeline(options)
    side = round(pipeline.vision.area**0.5 / 8) * 8
    source = Image.fromarray(render(task.source, side))
    result, verdict, how = _edit(pipeline, source, instruction)
    score = f"{verdict.overall:.1f} of 10" if verdict.overall is not None else f"none ({verdict.status})"
    line = f"asked: {instruction!r} · verifier's score: {score} · {result.seconds:.2f} s, {how}"
    write_image(side_by_side(instruction, [source, result.image], ["before", "after"]), out)
    print(line)
    print(f"before and after: {out}")
    return 0


def _edit(pipeline, source, instruction: str):
    """The likeliest image, or the best of a few draws where the verifier finds that one wanting."""
    import asyncio

    from earl.pipeline import best_of
    from earl.world.verifier.scene import SceneVerifier

    verifier = SceneVerifier()
    result = pipeline(source, instruction, greedy=True)
    verdict = asyncio.run(verifier.judge(result.attempts()))[0]
    if not verdict.ok or verdict.exact:
        return result, verdict, "one greedy sample"
    result, verdict = best_of(pipeline(source, instruction, num_images=DRAWS), verifier)
    return result, verdict, f"best of {DRAWS} samples"
