"""A session of the edit service whose edits are inverted sources."""

from __future__ import annotations

import time

from PIL import ImageOps

from earl.errors import InstructionError
from earl.pipeline import EditResult
from earl.records import Completion

ROWS = 8


class Inverter:
    """Inverts images, one row a step; counts what is in progress."""

    def __init__(self, pause: float = 0.0) -> None:
        self.pause, self.running, self.steps, self.removed = pause, {}, 0, 0
        self.most = 0

    def insert(self, edits):
        return [self._insert(*edit) for edit in edits]

    def _insert(self, request, seeds, on_row):
        if "unreadable" in request.fields.prompt:
            return InstructionError("the instruction is too long for the model; shorten it")
        ticket = self.steps * 1000 + len(self.running) + self.removed
        self.running[ticket] = [request, seeds, on_row, 0]
        self.most = max(self.most, len(self.running))
        return ticket

    def remove(self, ticket):
        del self.running[ticket]
        self.removed += 1

    def step(self, hand_back=True):
        time.sleep(self.pause)
        self.steps += 1
        done = []
        for ticket, entry in list(self.running.items()):
            request, seeds, on_row, row = entry
            entry[3] = row + 1
            image = ImageOps.invert(request.image)
            for index in range(len(seeds)):
                on_row(index, row + 1, lambda image=image: image)
            if "crash" in request.fields.prompt:
                raise RuntimeError("a mistake of ours")
            if entry[3] >= ROWS and hand_back:
                del self.running[ticket]
                count = len(seeds)
                completion = Completion((1,) * 10, (0.0,) * 10, "stop")
                result = EditResult(
                    (image,) * count,
                    (completion,) * count,
                    seeds,
                    request.image,
                    request.fields.prompt,
                    0.1,
                    (None,) * count,
                    (None,) * count,
                )
                done.append((ticket, result))
        return done

    def has_room(self, requests):
        return len(self.running) + len(requests) <= 4

    def lacking(self, request):
        return "it never saw a dragon" if "dragon" in request.fields.prompt else ""

    def rows_of(self, ticket):
        return ROWS

    def size_of(self, image):
        return image.size

    def finish(self, image, result, request, size):
        return image if size is None else image.resize(size)

    def prompt_lengths(self, result):
        return 5, 66
