"""Raw answers kept in a file as they come, and found again by what was asked.

One JSON line an answer: `key` (of the question, its images and its wording), `id`, `attempt`,
`text`, and `problem` where it could not be used. A line that a killed run left half-written is cut.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import IO

from earl.errors import CheckpointError, DataError


class AnswerFile:
    """Answers of earlier runs and of this one. Use as a context.

    Raises:
        DataError: the file holds something else.
        CheckpointError: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._known: dict[str, list[str]] = {}
        self._file: IO[str] | None = None

    def __enter__(self) -> AnswerFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self._mend()
                self._read()
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"{self.path} cannot be written: {error.strerror or error}") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file:
            self._file.close()
            self._file = None

    def of(self, key: str) -> list[str]:
        """Texts that were answered to a question, in order; "" where the endpoint refused it."""
        return list(self._known.get(key, ()))

    def add(self, key: str, name: str, text: str, problem: str = "") -> None:
        """Keep an answer, at once."""
        assert self._file, "an AnswerFile is used as a context"
        said = self._known.setdefault(key, [])
        entry = {"key": key, "id": name, "attempt": len(said) + 1, "text": text}
        said.append(text)
        try:
            self._file.write(json.dumps(entry | ({"problem": problem} if problem else {})) + "\n")
            self._file.flush()
        except OSError as error:
            raise CheckpointError(
                f"{self.path} cannot be written: {error.strerror or error}; free some space and start again"
            ) from error

    def _mend(self) -> None:
        """Cut off a last line that has no end."""
        with self.path.open("rb+") as file:
            size = file.seek(0, os.SEEK_END)
            step, keep = 1 << 16, 0
            for start in range(max(0, size - step), -step, -step):
                file.seek(max(0, start))
                end = file.read(step).rfind(b"\n")
                if end >= 0:
                    keep = max(0, start) + end + 1
                    break
            if keep < size:
                file.truncate(keep)

    def _read(self) -> None:
        with self.path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    entry = json.loads(line)
                    self._known.setdefault(str(entry["key"]), []).append(str(entry["text"]))
                except (ValueError, KeyError, TypeError) as error:
                    raise DataError(
                        f"{self.path}:{number} is no kept answer; name another file or move it away"
                    ) from error
