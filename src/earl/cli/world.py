"""`earl world sample`: example tasks as images and JSON, and a contact sheet to look at."""

from __future__ import annotations

import argparse
from pathlib import Path

from earl.cli import options as shared


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--out", default="out/world", help="folder to write into")
    add("--num", type=shared.integer(1, 10_000), default=8, help="tasks to draw")
    add("--seed", type=shared.seed, default=0, help="of the first task; the next ones count up")
    add("--split", choices=shared.SPLITS, default="test")
    add("--families", nargs="+", metavar="FAMILY", help="only these edit families")
    add("--resolution", type=shared.integer(16, 4096), default=64, help="px, side of the images")
    add("--sheet", metavar="FILE", help="also write all tasks as one image")
    add("--force", action="store_true", help="overwrite files that exist")


def run(options: argparse.Namespace) -> int:
    from PIL import Image

    from earl.cli.outputs import claim, claim_images, write_image
    from earl.cli.sheets import contact_sheet
    from earl.files import write_json
    from earl.world import render, sample_task

    folder = Path(options.out)
    names = [f"{options.split}-{options.seed + i}" for i in range(options.num)]
    pictures = [folder / f"{name}-{side}.png" for name in names for side in ("source", "target")]
    claim([*pictures, folder / "tasks.json"], force=options.force)
    sheet = claim_images(options.sheet, 1, force=options.force)[0] if options.sheet else None
    tasks = [sample_task(options.seed + i, options.split, options.families) for i in range(options.num)]
    records, rows = [], []
    for name, task in zip(names, tasks, strict=True):
        pair = [Image.fromarray(render(scene, options.resolution)) for scene in (task.source, task.target)]
        for image, side in zip(pair, ("source", "target"), strict=True):
            write_image(image, folder / f"{name}-{side}.png")
        rows.append((task.instruction, pair))
        records.append(
            {
                "id": task.id,
                "source": f"{name}-source.png",
                "target": f"{name}-target.png",
                "instruction": task.instruction,
                "family": task.family,
                "group": task.group,
                "boxes": [[box.left, box.top, box.right, box.bottom] for box in task.boxes],
                "reasoning": task.reasoning,
                "source_scene": task.source.to_dict(),
                "target_scene": task.target.to_dict(),
            }
        )
    write_json(folder / "tasks.json", records)
    print(f"{len(tasks)} tasks in {folder}, described in {folder / 'tasks.json'}")
    if sheet:
        write_image(contact_sheet(rows), sheet)
        print(f"contact sheet in {sheet}")
    return 0
