"""Model card of a converted folder: origin, contents, use, and the checks that it passed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCardData

from earl.models.catalogue import KNOWN
from earl.progress import one_line
from earl.records import PARTS
from earl.tables import markdown_text


def model_card(meta: Mapping[str, Any], checks: Mapping[str, float]) -> str:
    """Markdown with the hub's metadata on top.

    Args:
        meta: the content of `earl.json`.
        checks: largest difference by what was compared.
    """
    origin = meta["origin"]
    source, revision = origin["source"], origin.get("revision")
    quoted = one_line(source).replace("`", "'")
    known = KNOWN.get(source)
    metadata = ModelCardData(
        library_name="earl",
        pipeline_tag="image-to-image",
        license=str(meta["licence"]).lower() if meta.get("licence") else None,
        base_model=source if "/" in source and known is not None else None,
    )
    at = f" at revision `{revision}`" if revision else ""
    parts = ", ".join(meta["parts"])
    lines = ["---", metadata.to_yaml(), "---", "", f"# {markdown_text(source.rpartition('/')[2])}", ""]
    lines.append(f"Converted from `{quoted}`{at} by earl {origin['earl']}; holds: {parts}.")
    if known is not None and known.scores:
        scores = ", ".join(f"{name} {value:.2f}" for name, value in known.scores.items())
        lines += ["", f"{known.about}. VIEScore overall, 0-10, as published (arXiv 2508.01119): {scores}."]
    lines += ["", "| | |", "| --- | --- |"]
    for label, key in (
        ("parameters of the policy", "parameters"),
        ("stored as", "dtype"),
        ("area, px²", "area"),
        ("size rule", "size"),
    ):
        if key in meta:
            value = f"{meta[key]:,}" if isinstance(meta[key], int) else meta[key]
            lines.append(f"| {label} | {value} |")
    if not meta.get("licence"):
        lines.append(f"| licence | that of `{quoted}`; see its page |")
    if set(meta["parts"]) == set(PARTS):
        lines += ["", "```bash", 'earl edit photo.jpg "make it night" --model FOLDER -o out.png', "```"]
    lines += ["", "Largest difference from its source, when it was written:", ""]
    lines += [f"- {what}: {value:g}" for what, value in checks.items()]
    return "\n".join(lines) + "\n"
