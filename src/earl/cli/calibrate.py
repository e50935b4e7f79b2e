"""`earl verifier calibrate`: edits known to be good and known to be bad, judged; tables and JSON."""

from __future__ import annotations

import argparse
import platform
import time
from typing import TYPE_CHECKING

from earl.cli import options as shared
from earl.progress import Progress

if TYPE_CHECKING:
    from earl.world.verifier.calibration import Pass


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--num", type=shared.integer(1), default=190, help="tasks, the edit families in turn")
    add("--seed", type=shared.integer(0, 2**31 - 1), default=0, help="of the tasks and of the mistakes")
    add("--families", nargs="+", default=(), metavar="FAMILY", help="only these edit families")
    add("--through", metavar="MODEL", help="judge again after a pass through this vision tokenizer")
    add("--resolution", type=shared.integer(16, 1024), help="px, side of the images (default: the model's)")
    add("--device", choices=shared.DEVICES, default="auto", help="of the vision tokenizer")
    add("--json", metavar="FILE", help="also write the numbers, and each miss, there")
    add("--force", action="store_true", help="overwrite FILE if it exists")


def run(options: argparse.Namespace) -> int:
    import numpy as np

    import earl
    from earl.cli.outputs import claim
    from earl.files import write_json
    from earl.world.verifier.calibration import calibrate, format_report

    file = claim([options.json], force=options.force)[0] if options.json else None
    through, side = _through(options.through, options.device) if options.through else (None, 64)
    side = options.resolution or side
    began = time.perf_counter()
    with Progress() as show:
        result = calibrate(
            options.num,
            options.seed,
            through,
            side=side,
            families=options.families or None,
            on_tasks=lambda done: show("tasks", done, options.num),
        )
    report = result.report()
    seconds = time.perf_counter() - began
    if file:
        settings = {name: getattr(options, name) for name in ("num", "seed", "through")}
        versions = {"earl": earl.__version__, "python": platform.python_version(), "numpy": np.__version__}
        report |= {**settings, "resolution": side, "seconds": round(seconds, 1), "versions": versions}
        write_json(file, report)
    passed = f", and again after a pass through {options.through}" if options.through else ""
    print(f"{len(result.cases)} edits of {options.num} tasks, seed {options.seed}, {side} px{passed}\n")
    print(format_report(report))
    print(f"\n{len(report['misses'])} on the wrong side; {seconds:.0f} s")
    return 0


def _through(name: str, device: str) -> tuple[Pass, int]:
    """A vision tokenizer's round trip, and the side in px of a square image of its area."""
    from earl.pipeline import pick_device
    from earl.vision import load_vision_tokenizer

    eyes = load_vision_tokenizer(name, device=pick_device(device))

    def through(pictures):
        return eyes.decode(eyes.encode(pictures, resize=False))

    return through, round(eyes.area**0.5 / 8) * 8
