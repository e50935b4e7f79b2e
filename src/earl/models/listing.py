"""Rows of `earl models`."""

from __future__ import annotations

from typing import Any

from earl.models.catalogue import BASES, RELEASED, KnownModel
from earl.models.resolve import read_json, resolve_model
from earl.models.shapes import BYTES, EMU3, EMU3_VISION_PARAMETERS, GIB, PolicyShape, edit_bytes
from earl.registry import MODELS

AREA = 256 * 256  # px², what the released models work at


def describe_models() -> list[dict[str, Any]]:
    """Name, size, parts, licence, scores and computed memory of each: those installed, then the released."""
    return [*map(_installed, MODELS.names()), *map(_known, (*RELEASED, *BASES))]


def _known(model: KnownModel) -> dict[str, Any]:
    if model.layout == "Emu3 vision":
        memory = {"float32": model.parameters * BYTES["float32"]}
    else:
        dtypes = ("bfloat16", "int8", "int4")
        memory = {dtype: edit_bytes(EMU3, EMU3_VISION_PARAMETERS, AREA, dtype) for dtype in dtypes}
    return {
        "name": model.name,
        "about": model.about,
        "shipped": False,
        "parameters": model.parameters,
        "layout": model.layout,
        "tokenizer": model.tokenizer or None,
        "vision": model.vision,
        "size": "release",
        "revision": model.revision or "main",
        "licence": model.licence,
        "scores": dict(model.scores),
        "memory_gib_computed": {dtype: round(size / GIB, 1) for dtype, size in memory.items()},
    }


def _installed(name: str) -> dict[str, Any]:
    folder = MODELS.load(name)
    if not (folder / "earl.json").is_file():
        return {"name": name, "about": "not in this build of the package", "shipped": False}
    parts = resolve_model(name)
    shape = PolicyShape.from_config(read_json(parts.need("policy") / "config.json"))
    area = int(parts.meta.get("area", AREA))
    vision = sum(file.stat().st_size for file in parts.need("vision").glob("*.safetensors")) // 4
    return {
        "name": name,
        "about": f"installed: edits images of {area} px²",
        "shipped": True,
        "parameters": shape.parameters,
        "layout": "earl",
        "tokenizer": name,
        "vision": name,
        "size": parts.meta.get("size", "snap"),
        "revision": None,
        "licence": parts.meta.get("licence"),
        "scores": {},
        "memory_gib_computed": {"float32": round(edit_bytes(shape, vision, area, "float32") / GIB, 2)},
        "meta": parts.meta,
    }


def model_lines(row: dict[str, Any]) -> str:
    """A row as a few lines for people."""
    name = row["name"]
    if "parameters" not in row:
        return f"{name}\n    {row['about']}"
    count = row["parameters"]
    size = f"{count / 1e9:.2f} B" if count > 1e8 else f"{count / 1e6:.1f} M"
    facts = [f"{size} parameters", f"layout {row['layout']}"]
    facts += [f"size rule {row['size']}"]
    facts += [f"{key} {row[key]}" for key in ("revision", "licence") if row[key]]
    memory = ", ".join(f"{value} in {dtype}" for dtype, value in row["memory_gib_computed"].items())
    lines = [name, f"    {row['about']}", f"    {', '.join(facts)}", f"    memory {memory}"]
    homes = [f"{part} {row[part]}" for part in ("tokenizer", "vision") if row[part] not in (None, name)]
    lines += [f"    parts from elsewhere: {', '.join(homes)}"] if homes else []
    scores = [f"{benchmark} {value:.2f}" for benchmark, value in row["scores"].items()]
    lines += [f"    scores: {', '.join(scores)}"] if scores else []
    return "\n".join(lines)
