"""Edits of a benchmark by a diffusion model of `diffusers`, in the form that `--predictions` reads.

    python examples/diffusion_edits.py aurora-bench --path ~/data/aurora-bench --model aurora -o out/theirs
    earl evaluate aurora-bench --path ~/data/aurora-bench --predictions out/theirs --judge-url …

InstructPix2Pix and models tuned from it (MagicBrush, AURORA), and OmniGen. A model of a name below has the
settings of the paper's own scripts (https://github.com/saba96/EARL, `baselines/baselines_eval_on_*.py`):
diffusers' defaults for the first three, at the image's own size. Another hub id or folder is sampled as
InstructPix2Pix, unless options say otherwise. Each task has a seed of its own, `--seed` plus its number;
these scripts have none, and 222 for a batch of OmniGen's. A run that was cut short goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from earl.config import BenchmarkSettings
from earl.evaluation.benchmark import Task, open_benchmark
from earl.files import append_lines, read_lines
from earl.vision.images import open_image


@dataclass(frozen=True)
class Sampling:
    """Hub id, steps, guidance by text and by image; `side`: of the square in px that images are resized to, 0
    for their own size; `ancestral`: Euler's ancestral scheduler in place of the model's."""

    model: str
    steps: int = 100
    text: float = 7.5
    image: float = 1.5
    side: int = 0
    ancestral: bool = True


SETTINGS = {
    "instruct-pix2pix": Sampling("timbrooks/instruct-pix2pix"),
    "magicbrush": Sampling("vinesmsuic/magicbrush-paper"),
    "aurora": Sampling("McGill-NLP/AURORA", ancestral=False),
    "omnigen": Sampling("Shitao/OmniGen-v1-diffusers", steps=50, text=2.0, image=1.6, side=512),
}


def edit(pipeline: Any, task: Task, sampling: Sampling, seed: int) -> Image.Image:
    """One edited image, as large as what the model was shown."""
    import torch

    assert task.source is not None, "a task without a problem has a source"
    source = open_image(task.source)
    if sampling.side:
        source = source.resize((sampling.side, sampling.side))
    options: dict[str, Any] = {
        "num_inference_steps": sampling.steps,
        "guidance_scale": sampling.text,
        "generator": torch.Generator("cpu").manual_seed(seed),
    }
    if type(pipeline).__name__.startswith("OmniGen"):
        options |= {"prompt": f"<img><|image_1|></img> {task.instruction}", "input_images": [source]}
        options |= {"img_guidance_scale": sampling.image, "use_input_image_size_as_output": True}
    else:
        options |= {"prompt": task.instruction, "image": source, "image_guidance_scale": sampling.image}
    edited: Image.Image = pipeline(**options).images[0]
    return edited


def run(pipeline: Any, benchmark: Any, out: Path, sampling: Sampling, seed: int) -> int:
    """Edit every task that has no line yet in `predictions.jsonl`; how many were made."""
    listed = out / "predictions.jsonl"
    done = {str(row["id"]) for _, row in read_lines(listed)} if listed.exists() else set()
    out.mkdir(parents=True, exist_ok=True)
    made = 0
    for task in benchmark.tasks():
        if task.problem or task.id in done:
            continue
        edit(pipeline, task, sampling, seed + task.number).save(out / f"{task.key}.png")
        append_lines(listed, [{"id": task.id, "image": f"{task.key}.png"}])
        made += 1
        print(f"{task.number + 1}: {task.instruction}", flush=True)
    return made


def load(sampling: Sampling, device: str) -> Any:
    """A pipeline by its folder or hub id; the class is the one that it names. OmniGen is in bfloat16."""
    import torch
    from diffusers import DiffusionPipeline, EulerAncestralDiscreteScheduler

    half = torch.bfloat16 if "omnigen" in sampling.model.lower() else torch.float16
    dtype = torch.float32 if device == "cpu" else half
    pipeline: Any = DiffusionPipeline.from_pretrained(sampling.model, torch_dtype=dtype, use_safetensors=True)
    if hasattr(pipeline, "safety_checker"):
        pipeline.safety_checker = None  # a blackened image is no edit to be judged
    if hasattr(pipeline, "safety_checker") and sampling.ancestral:
        pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="edit a benchmark with a diffusion model")
    parser.add_argument("benchmark", help="a name, or own data: a file or folder")
    parser.add_argument("--path", help="files of a benchmark by name; own data need none")
    parser.add_argument(
        "--model", default="instruct-pix2pix", help=f"{', '.join(SETTINGS)}, hub id or folder"
    )
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seed", type=int, default=42)
    for name, kind in (("steps", int), ("text", float), ("image", float), ("side", int)):
        parser.add_argument(f"--{name}", type=kind, help="in place of the named model's value")
    given = parser.parse_args(argv)
    own = {name: value for name in ("steps", "text", "image", "side") if (value := getattr(given, name))}
    named = SETTINGS.get(given.model, Sampling(given.model))
    sampling = Sampling(**{**vars(named), **own})
    settings = BenchmarkSettings() if Path(given.benchmark).exists() else BenchmarkSettings(path=given.path)
    benchmark = open_benchmark(given.benchmark, settings)
    made = run(load(sampling, given.device), benchmark, given.out, sampling, given.seed)
    (given.out / "sampling.json").write_text(json.dumps({**vars(sampling), "seed": given.seed}))
    print(f"{made} images in {given.out}")


if __name__ == "__main__":
    main()
