"""Statistics of prepared shards: counts, families, grids, lengths, licences. Read in one pass.

Memory holds a number per edit at most, never the edits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from earl.data.shards import EditShards
from earl.sequence.layout import write_completion, write_image
from earl.sequence.tokenizer import TextTokenizer

_BATCH = 1024


_TITLES = {"split": "splits", "group": "groups", "family": "families", "licence": "licences", "grid": "grids"}
_LENGTHS = ("instruction", "reasoning", "sequence")
Stats = dict[str, Any]


def stats_lines(stats: Stats) -> list[str]:
    """The counts as lines for people."""
    share = stats["changed"]
    changed = "no targets" if share is None else f"{share:.1%} of cells change"
    lines = [
        f"{stats['edits']} edit{'s'[: stats['edits'] != 1]} of {stats['sources']} source "
        f"image{'s'[: stats['sources'] != 1]} in {stats['notes']['folder']}, "
        f"{stats['without_target']} without target, {stats['doubled']} with an id that came before, "
        f"{stats['with_boxes']} with boxes",
        f"{stats['codes_used']:.1%} of the codebook used, {changed}",
    ]
    for title in _TITLES.values():
        counts = stats[title]
        shown = ", ".join(f"{name or '(none)'} {count}" for name, count in list(counts.items())[:20])
        more = f" and {len(counts) - 20} more" if len(counts) > 20 else ""
        lines.append(f"{title:<9} {shown}{more}")
    for title in _LENGTHS:
        if spread := stats[title]:
            lines.append(
                f"{title:<12} {stats['unit']}: {spread['least']} to {spread['most']}, median "
                f"{spread['median']:g}, 95% within {spread['p95']:g} ({spread['count']})"
            )
    return lines


def shard_stats(shards: EditShards, tokenizer: TextTokenizer | None = None) -> Stats:
    """Look at every edit once.

    Args:
        tokenizer: lengths are counted in its tokens, and whole sequences (BOS, source, instruction,
            reasoning, target, EOS) too. None counts characters.

    Returns:
        {"edits", "sources", "without_target", "doubled" (edits whose id came before), "families", "groups",
        "splits", "licences", "grids" (edits by name), "with_boxes", "changed" (share of cells, None without
        targets), "codes_used" (share of the codebook), "unit" ("tokens" or "characters"), "instruction",
        "reasoning", "sequence" ({"count", "least", "median", "p95", "mean", "most"}, None of nothing),
        "notes"}.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in _TITLES}
    seen, sources, doubled = set[bytes](), set[bytes](), 0
    lacking = boxed = cells = cells_changed = 0
    lengths: dict[str, list[int]] = {name: [] for name in _LENGTHS}
    used = np.zeros(shards.codebook_size, bool)
    for batch in shards.dataset.iter(batch_size=_BATCH):
        for place, name in enumerate(batch["id"]):
            mark = _mark(str(name))
            doubled += mark in seen
            seen.add(mark)
            sources.add(_mark(str(batch["source"][place])))
            height, width = int(batch["height"][place]), int(batch["width"][place])
            row = {key: str(batch[key][place]) for key in ("family", "group", "split")}
            row["licence"] = str(batch["licence"][place]) if "licence" in batch else ""
            row["grid"] = f"{height}*{width}"
            for key, value in row.items():
                counts[key][value] += 1
            has_target = len(batch["target_codes"][place]) > 0
            lacking += not has_target
            if has_target:
                cells += height * width
                cells_changed += int(np.count_nonzero(batch["changed"][place]))
                used[np.asarray(batch["target_codes"][place], np.int64)] = True
            used[np.asarray(batch["source_codes"][place], np.int64)] = True
            boxed += "boxes" in batch and len(batch["boxes"][place]) > 0
            texts = str(batch["instruction"][place]), str(batch["reasoning"][place])
            _measure(lengths, texts, (height, width), has_target, tokenizer)
    return {
        "edits": len(shards),
        "sources": len(sources),
        "without_target": lacking,
        "doubled": doubled,
        **{title: dict(counts[name].most_common()) for name, title in _TITLES.items()},
        "with_boxes": boxed,
        "changed": cells_changed / cells if cells else None,
        "codes_used": float(used.mean()),
        "unit": "tokens" if tokenizer else "characters",
        **{name: _spread(found) for name, found in lengths.items()},
        "notes": {
            "folder": shards.name,
            "area": shards.manifest.get("area"),
            "fingerprint": shards.fingerprint,
        },
    }


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    middle, high = np.percentile(values, [50, 95]).tolist()
    least, mean, most = min(values), sum(values) / len(values), max(values)
    return {"count": len(values), "least": least, "median": middle, "p95": high, "mean": mean, "most": most}


def _measure(
    lengths: dict[str, list[int]],
    texts: tuple[str, str],
    grid: tuple[int, int],
    has_target: bool,
    tokenizer: TextTokenizer | None,
) -> None:
    instruction, reasoning = texts
    if tokenizer is None:
        lengths["instruction"].append(len(instruction))
        if reasoning:
            lengths["reasoning"].append(len(reasoning))
        return
    words = len(tokenizer.encode(instruction))
    image = len(write_image(np.zeros(grid, np.int32), tokenizer))
    lengths["instruction"].append(words)
    thought = 0
    if reasoning:
        thought = len(write_completion(np.zeros(grid, np.int32), tokenizer, reasoning)) - image - 1
        lengths["reasoning"].append(thought)
    lengths["sequence"].append(1 + image + words + (thought + image + 1 if has_target else 0))


def _mark(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
