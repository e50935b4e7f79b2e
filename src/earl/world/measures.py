"""The world's commands that measure: a vision tokenizer, the scene verifier."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from earl.config import Settings
from earl.config.model import Device
from earl.config.options import JSON_FILE, MODEL, Group
from earl.config.settings import Count
from earl.progress import Progress, say
from earl.world.settings import Families, TokenizerBenchmark

if TYPE_CHECKING:
    from earl.world.verifier.calibration import Pass


class TokenizerOptions(Settings):
    model: str = Field(
        default="world", description="a registered model, a model or vision tokenizer folder, or a hub id"
    )
    revision: str | None = Field(default=None, description="branch, tag or commit of a hub id")
    device: Device = Field(default="auto", description="auto (CUDA where there is one), cpu, cuda or cuda:1")
    json_file: Annotated[Path | None, JSON_FILE] = Field(default=None, description="also write the numbers")
    force: bool = Field(default=False, description="overwrite a file that exists")


def tokenizer(
    options: TokenizerOptions, benchmark: Annotated[TokenizerBenchmark, Group(title="scenes")]
) -> None:
    """Measure a vision tokenizer on unseen scenes; a table by style."""
    from earl.files import claim, write_json
    from earl.pipeline import pick_device
    from earl.vision.loading import load_vision_tokenizer
    from earl.world.tokenizer_benchmark import evaluate_tokenizer, format_tokenizer

    claim([options.json_file] if options.json_file else [], force=options.force)
    device = pick_device(options.device)
    vision = load_vision_tokenizer(options.model, device=device, revision=options.revision)
    with Progress() as show:
        report = evaluate_tokenizer(
            vision, benchmark, name=options.model, on_batch=lambda done: show("images", done, benchmark.num)
        )
    if options.json_file is not None:
        write_json(options.json_file, report)
    say(
        f"{options.model}: {benchmark.num} scenes of the {benchmark.split} split, seed {benchmark.seed}, "
        f"{report['resolution']} px\n"
    )
    say(format_tokenizer(report))
    say(f"{report['seconds']:.0f} s")


class CalibrateOptions(Settings):
    num: Count = Field(default=190, description="tasks, the edit families in turn")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the tasks and of the mistakes")
    families: Families = Field(default=(), description="only these edit families")
    through: Annotated[str | None, MODEL] = Field(
        default=None, description="judge again after a pass through this vision tokenizer"
    )
    weak: bool = Field(default=False, description="also what the verifier weak-judge makes of the same edits")
    resolution: int | None = Field(
        default=None, ge=16, le=1024, description="px, side of the images (default: the model's)"
    )
    device: Device = Field(default="auto", description="of the vision tokenizer: auto, cpu, cuda or cuda:1")
    json_file: Annotated[Path | None, JSON_FILE] = Field(
        default=None, description="also write the numbers, and each edit on the wrong side"
    )
    force: bool = Field(default=False, description="overwrite a file that exists")


def calibrate(options: CalibrateOptions) -> None:
    """Measure the scene verifier on edits that are known to be good or bad."""
    from earl.environment import versions
    from earl.files import claim, write_json
    from earl.world.verifier.calibration import calibrate as run
    from earl.world.verifier.calibration import format_report, weak_table
    from earl.world.verifier.weak_judge import AGREEMENTS, WeakJudge

    claim([options.json_file] if options.json_file else [], force=options.force)
    through, side = _through(options.through, options.device) if options.through else (None, 64)
    side = options.resolution or side
    began = time.perf_counter()
    with Progress() as show:
        result = run(
            options.num,
            options.seed,
            through,
            side=side,
            families=options.families or None,
            weak=[WeakJudge(name) for name in AGREEMENTS] if options.weak else (),
            on_tasks=lambda done: show("tasks", done, options.num),
        )
    report = result.report()
    seconds = time.perf_counter() - began
    if options.json_file is not None:
        settings = {name: getattr(options, name) for name in ("num", "seed", "through")}
        more = {"resolution": side, "seconds": round(seconds, 1), "versions": versions()}
        write_json(options.json_file, report | settings | more)
    passed = f", and again after a pass through {options.through}" if options.through else ""
    say(f"{len(result.cases)} edits of {options.num} tasks, seed {options.seed}, {side} px{passed}\n")
    say(format_report(report))
    if options.weak:
        say(weak_table(result.cases).markdown())
    say(f"\n{len(report['misses'])} on the wrong side; {seconds:.0f} s")


def _through(name: str, device: str) -> tuple[Pass, int]:
    """A vision tokenizer's round trip, and the side in px of a square image of its area."""
    from earl.pipeline import pick_device
    from earl.vision.images import square_side
    from earl.vision.loading import load_vision_tokenizer

    vision = load_vision_tokenizer(name, device=pick_device(device))

    def through(images: Any) -> Any:
        return vision.decode(vision.encode(images, resize=False))

    return through, square_side(vision.area)
