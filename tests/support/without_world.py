"""A pytest plugin that removes the room `earl.world` from the import path: `-p without_world`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder


class Blocker(MetaPathFinder):
    """Finds nothing, and lets nobody else find the world."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        if fullname == "earl.world" or fullname.startswith("earl.world."):
            raise ModuleNotFoundError(f"{fullname} was removed for this test", name=fullname)


sys.meta_path.insert(0, Blocker())
