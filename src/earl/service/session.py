"""Edits in progress together: what the scheduler's thread drives, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from PIL import Image

from earl.pipeline import EditResult
from earl.service.edit_request import EditRequest

OnRow = Callable[[int, int, Callable[[], Image.Image]], None]
"""Called with (image, rows sampled so far, a function that shows it) as rows are done."""


class Session(Protocol):
    """Edits in progress. One thread inserts, removes and steps; the others are pure."""

    def insert(self, request: EditRequest, seeds: tuple[int, ...], on_row: OnRow) -> int:
        """Let an edit join at the next step; returns its ticket. Raises EarlError."""
        ...

    def remove(self, ticket: int) -> None:
        """Drop an edit; its work ends with this call."""
        ...

    def step(self) -> list[tuple[int, EditResult]]:
        """Take one step for all edits; returns those that are through."""
        ...

    def has_room(self, request: EditRequest) -> bool:
        """Whether its images can join now."""
        ...

    def rows_of(self, ticket: int) -> int:
        """Rows of codes of an edit's images."""
        ...

    def size_of(self, image: Image.Image) -> tuple[int, int]:
        """Width and height of the images that the model gives for a source."""
        ...

    def finish(
        self, image: Image.Image, result: EditResult, request: EditRequest, size: tuple[int, int] | None
    ) -> Image.Image:
        """An image as the caller gets it: scaled, and with the source's pixels outside what changed."""
        ...

    def prompt_lengths(self, result: EditResult) -> tuple[int, int]:
        """Ids of text and of the image in a result's prompt."""
        ...
