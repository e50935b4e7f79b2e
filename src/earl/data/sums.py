"""Checksums of a shard's tables, in its `checksums.json`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from earl.errors import DataError
from earl.files import checksum, read_object, write_json

SUMS = "checksums.json"


def write_sums(shard: Path) -> None:
    """Write the checksums of the tables that lie in a shard. Raises OutputError."""
    write_json(shard / SUMS, {path.name: checksum(path) for path in sorted(shard.glob("*.arrow"))})


def digest_of(folder: Path) -> str:
    """One digest of the checksums of a folder's shards."""
    digest = hashlib.blake2b(digest_size=8)
    for sums in sorted(folder.glob(f"shard-*/{SUMS}")):
        digest.update(f"{sums.parent.name} {json.dumps(read_object(sums), sort_keys=True)}\n".encode())
    return digest.hexdigest()


def check_sums(shard: Path, *, needed: bool) -> None:
    """Raises DataError where a table is damaged or missing, or where `needed` checksums are missing."""
    if not (shard / SUMS).is_file():
        if needed:
            raise DataError(f"{shard / SUMS} is missing; delete {shard} and prepare it again")
        return
    sums = read_object(shard / SUMS)
    if unnamed := sorted({path.name for path in shard.glob("*.arrow")} - sums.keys()):
        raise DataError(f"{shard / SUMS} does not name {unnamed[0]}; delete {shard} and prepare it again")
    for name, expected in sums.items():
        try:
            intact = checksum(shard / name) == expected
        except OSError as error:
            raise DataError(f"{shard / name} cannot be read: {error.strerror}; prepare it again") from error
        if not intact:
            raise DataError(
                f"{shard / name} is damaged: its checksum is another; delete {shard} and prepare it again"
            )
