"""`earl models`: what can be loaded by name, how large it is, and how it scored."""

from __future__ import annotations

import argparse
import json
from typing import Any

AREA = 256 * 256  # px², what the released models work at
GIB = 2**30


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def run(options: argparse.Namespace) -> int:
    from earl.models.catalogue import BASES, RELEASED

    rows = [_shipped(), *(_row(model) for model in (*RELEASED, *BASES))]
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return 0
    for row in rows:
        print(_shown(row))
    print(
        "\nmemory: GiB to edit one image (weights, the vision tokenizer in float32, one cache of keys and\n"
        "values), computed, not measured; the CUDA context and activations come on top.\n"
        "scores: VIEScore overall, 0-10, gpt-4o-mini, as published (arXiv 2508.01119).\n"
        "licence: where none is shown, see the model's page on huggingface.co."
    )
    return 0


def _row(model: Any) -> dict[str, Any]:
    from earl.models.catalogue import VISION_HOME
    from earl.models.shapes import BYTES, EMU3, EMU3_VISION_PARAMETERS, edit_bytes

    if model.layout == "Emu3 vision":
        memory = {"float32": model.parameters * BYTES["float32"]}
    else:
        memory = {
            dtype: edit_bytes(EMU3, EMU3_VISION_PARAMETERS, AREA, dtype)
            for dtype in ("bfloat16", "int8", "int4")
        }
    return {
        "name": model.name,
        "about": model.about,
        "shipped": False,
        "parameters": model.parameters,
        "layout": model.layout,
        "tokenizer": model.tokenizer,
        "vision": model.vision or VISION_HOME,
        "revision": model.revision or "main",
        "licence": model.licence,
        "scores": dict(model.scores),
        "memory_gib_computed": {dtype: round(size / GIB, 1) for dtype, size in memory.items()},
    }


def _shipped() -> dict[str, Any]:
    from earl.models.resolve import SHIPPED, read_json, resolve_model, shipped_folder
    from earl.models.shapes import PolicyShape, edit_bytes

    if not (shipped_folder() / "earl.json").is_file():
        return {"name": SHIPPED, "about": "not in this build of the package", "shipped": False}
    found = resolve_model(SHIPPED)
    shape = PolicyShape.from_config(read_json(found.need("policy") / "config.json"))
    area = int(found.meta.get("area", 4096))
    vision = sum(file.stat().st_size for file in found.need("vision").glob("*.safetensors")) // 4
    sizes = {"float32": edit_bytes(shape, vision, area, "float32")}
    return {
        "name": SHIPPED,
        "about": f"in the package: edits images of the procedural world, {area} px²",
        "shipped": True,
        "parameters": shape.parameters,
        "layout": "earl",
        "tokenizer": SHIPPED,
        "vision": SHIPPED,
        "revision": None,
        "licence": found.meta.get("licence"),
        "scores": {},
        "memory_gib_computed": {dtype: round(size / GIB, 2) for dtype, size in sizes.items()},
        "meta": found.meta,
    }


def _shown(row: dict[str, Any]) -> str:
    """A model as a few lines for people."""
    name = row["name"]
    if "parameters" not in row:
        return f"{name}\n    {row['about']}"
    count = row["parameters"]
    size = f"{count / 1e9:.2f} B" if count > 1e8 else f"{count / 1e6:.1f} M"
    facts = [f"{size} parameters", f"layout {row['layout']}"]
    facts += [f"revision {row['revision']}"] if row["revision"] else []
    facts += [f"licence {row['licence']}"] if row["licence"] else []
    memory = ", ".join(f"{value} in {dtype}" for dtype, value in row["memory_gib_computed"].items())
    lines = [name, f"    {row['about']}", f"    {', '.join(facts)}", f"    memory {memory}"]
    homes = [f"{part} {row[part]}" for part in ("tokenizer", "vision") if row[part] not in (None, name)]
    lines += [f"    parts from elsewhere: {', '.join(homes)}"] if homes else []
    scores = [f"{benchmark} {value:.2f}" for benchmark, value in row["scores"].items()]
    lines += [f"    scores: {', '.join(scores)}"] if scores else []
    return "\n".join(lines)
