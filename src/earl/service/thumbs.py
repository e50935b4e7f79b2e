"""Thumbs of the editing page, kept as pairs that `earl prepare` takes.

Two edits of one image by one instruction, one liked and the other not, are a pair.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from hashlib import blake2b
from pathlib import Path

from PIL import Image

from earl.files import check_writable, write_bytes
from earl.store import RecordFile
from earl.vision.saving import encode_image


class Thumbs:
    """A file of pairs that grows with each thumb; images lie in a folder beside it.

    Args:
        path: JSON Lines, as `choices.jsonl`; its images are in `choices-images/`. What it holds is kept.

    Raises:
        OutputError: it cannot be written. DataError: it holds something else.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = check_writable(path)
        self.images = self.path.with_name(f"{self.path.stem}-images")
        self._store: RecordFile[dict[str, str]] = RecordFile(self.path)
        self._liked: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._store)

    def vote(self, source: Image.Image, instruction: str, edited: Image.Image, *, liked: bool) -> int:
        """A thumb, up or down; another one about the same image takes its place.

        Returns:
            Pairs that this image is part of now. Raises OutputError.
        """
        before, after = self._kept(source), self._kept(edited)
        with self._lock:
            votes = self._liked[before, instruction]
            votes[after] = liked
            edit = blake2b(f"{before}\0{instruction}".encode(), digest_size=8).hexdigest()
            others = [other for other, was in votes.items() if was != liked]
            keys = {other: f"{edit}: {min(after, other)} {max(after, other)}" for other in votes}
            self._store.drop(keys.values())
            for other in others:
                better, worse = (after, other) if liked else (other, after)
                pair = {"source": before, "preferred": better, "other": worse}
                beside = {name: f"{self.images.name}/{image}" for name, image in pair.items()}
                self._store.append({keys[other]: {"instruction": instruction, **beside}})
        return len(others)

    def _kept(self, image: Image.Image) -> str:
        """The name of an image's file, which is written once."""
        content = encode_image(image.convert("RGB"), "PNG")
        name = f"{blake2b(content, digest_size=8).hexdigest()}.png"
        if not (self.images / name).is_file():
            write_bytes(self.images / name, content)
        return name
