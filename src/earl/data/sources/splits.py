"""Names of splits in files, folders and columns, and the choice of one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from earl.errors import DataError

ALL = "all"
"""Asked for in place of a split: every row."""

_SAME = {
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "testing": "test",
}
_KNOWN = {"train", "validation", "test", *_SAME}


def plain_split(name: str) -> str:
    """A split's usual name: "val", "valid" and "dev" are "validation"."""
    name = name.strip().lower()
    return _SAME.get(name, name)


def split_of(names: Iterable[str], wanted: str = "") -> str:
    """The split that a file tells, "" where it tells none.

    Args:
        names: the file's, then its folders', nearest first, without endings.
        wanted: a split of another name that counts too.
    """
    known = {*_KNOWN, wanted} - {""}
    for name in names:
        words = re.split(r"[^A-Za-z]+", name.lower())
        if found := next((word for word in [name.lower(), *words] if word in known), ""):
            return plain_split(found)
    return ""


def pick_split(told: Collection[str], asked: str | None, default: str, name: str) -> str:
    """The split that is read.

    Args:
        told: the splits that there are, by their usual names.
        asked: by the user; None reads `default`, or the only one there is.

    Raises:
        DataError: there is none of this name.
    """
    wanted = plain_split(asked or default)
    if not told or wanted in told or wanted == ALL:
        return wanted
    if asked is None and len(told) == 1:
        return next(iter(told))
    there = " and ".join(sorted(told))
    raise DataError(f"{name} has the splits {there}, and none called {wanted}; name one of them with --split")
