"""`earl models`: what can be loaded by name."""

from __future__ import annotations

import argparse
import json
from typing import Any

RELEASED: tuple[tuple[str, str], ...] = (
    ("mair-lab/sft-simple", "SFT on simple edits"),
    ("mair-lab/thinking-sft-simple", "SFT on simple edits with reasoning"),
    ("mair-lab/sft-simple.rl-simple-n-complex", "SFT on simple, RL on simple and complex edits"),
    (
        "mair-lab/earl-thinking-sft-simple.rl-simple-n-complex",
        "SFT with reasoning, RL on simple and complex edits",
    ),
    ("mair-lab/earl-sft-simple.rl-simple-n-complex-scaled", "EARL: SFT on simple, scaled RL on both"),
    ("Image-editing/imged_rl_grpo_sft.s_rl.sc", "SFT on simple, RL on both; revision ckpt_001999"),
)
PARTS_FOR_RELEASED = "--tokenizer BAAI/Emu3-Stage1 --vision BAAI/Emu3-VisionTokenizer"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run(options: argparse.Namespace) -> int:
    rows = [_shipped(), *(_released(name, what) for name, what in RELEASED)]
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        print(f"{row['name']:<{width}}  {row['about']}")
    print("\nThe released models (8.49 B parameters, bf16) take their tokenizers from elsewhere:")
    print(f"  {PARTS_FOR_RELEASED}")
    return 0


def _released(name: str, about: str) -> dict[str, Any]:
    return {"name": name, "about": about, "shipped": False, "parameters": 8_490_000_000}


def _shipped() -> dict[str, Any]:
    from earl.config.models import SHIPPED, resolve_model, shipped_folder

    if not (shipped_folder() / "earl.json").is_file():
        return {"name": SHIPPED, "about": "not in this build of the package", "shipped": False}
    meta = resolve_model(SHIPPED).meta
    about = f"in the package: edits pictures of the procedural world, {meta.get('area', '?')} px²"
    return {"name": SHIPPED, "about": about, "shipped": True, "meta": meta}
