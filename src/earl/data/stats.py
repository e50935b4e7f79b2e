"""What prepared shards hold: counts, families, grids, lengths, licences. Read in one pass.

Memory holds a number per edit at most, never the edits.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from earl.data.shards import EditShards
from earl.sequence.layout import write_completion, write_image
from earl.sequence.tokenizer import TextTokenizer

_BATCH = 1024


@dataclass(frozen=True)
class Spread:
    """Of lengths: how many, the least, median, 95th percentile, mean and most."""

    count: int
    least: int
    median: float
    p95: float
    mean: float
    most: int

    @classmethod
    def of(cls, values: Sequence[int] | NDArray[np.integer]) -> Spread | None:
        """None of nothing."""
        if not len(values):
            return None
        array = np.asarray(values)
        middle, high = np.percentile(array, [50, 95])
        return cls(
            len(array), int(array.min()), float(middle), float(high), float(array.mean()), int(array.max())
        )


@dataclass(frozen=True)
class Stats:
    """Counts of edits by what they are; lengths in tokens where a text tokenizer was given, else in
    characters. `doubled` counts edits whose id came before; `codes_used` is a share of the codebook."""

    edits: int
    sources: int
    without_target: int
    doubled: int
    families: dict[str, int]
    groups: dict[str, int]
    splits: dict[str, int]
    licences: dict[str, int]
    grids: dict[str, int]
    with_boxes: int
    changed: float | None
    codes_used: float
    unit: str
    instruction: Spread | None
    reasoning: Spread | None
    sequence: Spread | None
    notes: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            name: vars(value) if isinstance(value, Spread) else value for name, value in vars(self).items()
        }


def stats_lines(stats: Stats) -> list[str]:
    """The counts as lines for people."""
    changed = "no targets" if stats.changed is None else f"{stats.changed:.1%} of cells change"
    lines = [
        f"{stats.edits} edits of {stats.sources} source images in {stats.notes['folder']}, "
        f"{stats.without_target} without target, {stats.doubled} with an id that came before, "
        f"{stats.with_boxes} with boxes",
        f"{stats.codes_used:.1%} of the codebook used, {changed}",
    ]
    for title in ("splits", "groups", "families", "licences", "grids"):
        counts: dict[str, int] = getattr(stats, title)
        shown = ", ".join(f"{name or '(none)'} {count}" for name, count in list(counts.items())[:20])
        more = f" and {len(counts) - 20} more" if len(counts) > 20 else ""
        lines.append(f"{title:<9} {shown}{more}")
    for title in ("instruction", "reasoning", "sequence"):
        spread: Spread | None = getattr(stats, title)
        if spread is not None:
            lines.append(
                f"{title:<12} {stats.unit}: {spread.least} to {spread.most}, median {spread.median:g}, "
                f"95% within {spread.p95:g} ({spread.count})"
            )
    return lines


def shard_stats(shards: EditShards, tokenizer: TextTokenizer | None = None) -> Stats:
    """Look at every edit once.

    Args:
        tokenizer: lengths are counted in its tokens, and whole sequences (BOS, source, instruction,
            reasoning, target, EOS) too. None counts characters.
    """
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("family", "group", "split", "licence", "grid")
    }
    seen, sources, doubled = set[bytes](), set[bytes](), 0
    lacking = boxed = cells = cells_changed = 0
    lengths: dict[str, list[int]] = {"instruction": [], "reasoning": [], "sequence": []}
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
    return Stats(
        edits=len(shards),
        sources=len(sources),
        without_target=lacking,
        doubled=doubled,
        families=dict(counts["family"].most_common()),
        groups=dict(counts["group"].most_common()),
        splits=dict(counts["split"].most_common()),
        licences=dict(counts["licence"].most_common()),
        grids=dict(counts["grid"].most_common()),
        with_boxes=boxed,
        changed=cells_changed / cells if cells else None,
        codes_used=float(used.mean()),
        unit="tokens" if tokenizer else "characters",
        instruction=Spread.of(lengths["instruction"]),
        reasoning=Spread.of(lengths["reasoning"]),
        sequence=Spread.of(lengths["sequence"]),
        notes={"folder": shards.name, "area": shards.manifest.get("area"), "fingerprint": shards.fingerprint},
    )


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
