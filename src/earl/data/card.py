"""The card of a prepared folder: what it was made from, under which licence, and how it is split.

`card.json` is for programs, `README.md` for people and for the Hub. Both are written when a
preparation is through, from the shards themselves, so that the counts are of what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import DatasetCardData
from jinja2 import Template

from earl import __version__
from earl.data.shards import EditShards, load_shards
from earl.errors import DataError
from earl.files import read_object, read_text, write_json, write_text
from earl.tables import Column, Row, Table, markdown_text

CARD, README = "card.json", "README.md"
_PAGE = Path(__file__).with_name("card.md.jinja")
_BATCH = 4096
_COUNTED = ("split", "group", "family", "licence")
_DIGESTED = ("id", "source", "instruction", "reasoning", "split")


def write_card(folder: str | Path, **facts: Any) -> dict[str, Any]:
    """Count what a folder of shards holds and write its card.

    Args:
        facts: what only the preparation knows (`source`, `rows`, `holdout`), JSON-able.

    Returns:
        What `card.json` says.

    Raises:
        DataError: no shards.
        OutputError: the card could not be written; the shards are whole.
    """
    folder = Path(folder)
    shards = load_shards(folder)
    counts, digest = _count(shards)
    made_with = {name: value for name, value in shards.manifest.items() if value not in (None, {}, [])}
    card = {
        "format": 1,
        **facts,
        "edits": len(shards),
        **{f"{'families' if name == 'family' else name + 's'}": dict(counts[name]) for name in _COUNTED},
        "splits_by_family": _nested(counts["split, family"]),
        "without_target": counts["target"]["without"],
        "unchanged": counts["target"]["unchanged"],
        "with_reasoning": counts["reasoning"]["with"],
        "hashes": {
            "tokenizer": shards.fingerprint,
            "rows": digest,
            **({"instructions": made_with["instructions"]} if made_with.get("instructions") else {}),
        },
        "made_with": made_with,
        "made_by": __version__,
    }
    write_json(folder / CARD, card)
    write_text(folder / README, _page(folder.resolve().name, card))
    return card


def read_card(folder: str | Path) -> dict[str, Any]:
    """Read `card.json` of a folder. Raises DataError where there is none."""
    path = Path(folder) / CARD
    if not path.is_file():
        raise DataError(f"{folder} has no {CARD}: its preparation is not through; run the same command again")
    return read_object(path)


def drop_card(folder: str | Path) -> None:
    """Remove the card before shards are added to a finished folder: it describes only the earlier ones."""
    (Path(folder) / CARD).unlink(missing_ok=True)


def _count(shards: EditShards) -> tuple[dict[str, Counter[Any]], str]:
    """Counts by what an edit is, and a digest over all rows in order."""
    names = [*_COUNTED, "split, family", "target", "reasoning"]
    counts: dict[str, Counter[Any]] = {name: Counter() for name in names}
    digest = hashlib.blake2b(digest_size=16)
    present = set(shards.dataset.column_names)
    wanted = {name for name in (*_COUNTED, *_DIGESTED) if name in present}
    texts = shards.dataset.with_format(None).select_columns(sorted(wanted))
    for batch in texts.iter(batch_size=_BATCH):
        for name in _COUNTED:
            counts[name].update(batch.get(name, [""] * len(batch["id"])))
        counts["split, family"].update(zip(batch["split"], batch["family"], strict=True))
        counts["reasoning"]["with"] += sum(bool(text) for text in batch["reasoning"])
        for row in zip(*(batch[name] for name in _DIGESTED), strict=True):
            digest.update(json.dumps(row, ensure_ascii=False).encode())
    read = ("source_codes", "target_codes", "changed")
    columns = shards.dataset.select_columns(list(read)).with_format("arrow")
    for table in columns.iter(batch_size=_BATCH):
        sources, targets, cells = (table[name].combine_chunks() for name in read)
        for codes in (sources, targets):
            digest.update(codes.flatten().to_numpy(zero_copy_only=False).tobytes())
        given = targets.value_lengths().to_numpy(zero_copy_only=False) > 0
        before = np.concatenate([[0], np.cumsum(cells.values.to_numpy(zero_copy_only=False))])
        changed = np.diff(before[cells.offsets.to_numpy()])
        counts["target"]["without"] += int((~given).sum())
        counts["target"]["unchanged"] += int((given & (changed == 0)).sum())
    return counts, digest.hexdigest()


def _nested(pairs: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = {}
    for (split, family), count in sorted(pairs.items()):
        nested.setdefault(split, {})[family] = count
    return nested


def _page(name: str, card: Mapping[str, Any]) -> str:
    """The README: metadata as the Hub reads it, and what the card says in words."""
    source = card.get("source", {})
    licences = sorted(filter(None, card["licences"]))
    metadata = DatasetCardData(
        license=[licence.lower() for licence in licences] or None,
        tags=["image-editing", "tokenised"],
        pretty_name=name,
    )
    split, family, edits = Column("split", left=True), Column("family", left=True), Column("edits")
    splits = Table("", [split, edits], [Row(row) for row in sorted(card["splits"].items())])
    nested = card["splits_by_family"].items()
    rows = [Row((part, kind, count)) for part, counts in nested for kind, count in counts.items()]
    families = Table("", [split, family, edits], rows)
    words = Template(read_text(_PAGE), trim_blocks=True).render(
        **{
            **card,
            "name": markdown_text(name),
            "by_split": splits.markdown(),
            "by_family": families.markdown(),
        },
        origin=markdown_text(
            str(source.get("hub") or source.get("name") or card["made_with"].get("origin", ""))
        ),
        licence=markdown_text(", ".join(licences)) or "not stated",
    )
    return f"---\n{metadata.to_yaml()}\n---\n\n{words}\n"
