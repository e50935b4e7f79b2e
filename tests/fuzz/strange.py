"""Seeded generators of odd values, for the fuzzers of this folder."""

from __future__ import annotations

import os
import random
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 30  # of the processor, for one input
GIBIBYTES = 6  # of address space, beyond what is taken when an input is tried
NUMBERS: tuple[Any, ...] = (0, 1, -1, 2**31, 2**63, 10**30, 10**400, 0.5, -0.0, 1e308, True, False)
NUMBERS += (float("nan"), float("inf"), float("-inf"))
TEXTS = ("", " ", "x", "0", "1", "-1", "None", "nan", "true", "auto", "world", "..", "/", "~", "~nobody/x")
TEXTS += ("/dev/zero", "a\0b", "\ud800", "\u2028", "\ufeff", "猫", "{}", "[1]", "%s", "<script>", "x" * 5000)


def seeded(name: str) -> random.Random:
    """A generator whose seed is printed; EARL_FUZZ_SEED sets it."""
    seed = int(os.environ.get("EARL_FUZZ_SEED", "0"))
    print(f"{name}: EARL_FUZZ_SEED={seed}")
    return random.Random(f"{name}/{seed}")


def strange(draw: random.Random, depth: int = 0) -> Any:
    """A JSON value that nobody expects: of any type, size and depth."""
    kind = draw.random()
    if kind < 0.35:
        return draw.choice(NUMBERS)
    if kind < 0.7:
        return draw.choice(TEXTS)
    if kind < 0.8 or depth > 2:
        return None
    if kind < 0.82:
        return nested(draw.choice((20, 300)))
    inner = [strange(draw, depth + 1) for _ in range(draw.randint(0, 3))]
    return inner if draw.random() < 0.5 else {str(draw.choice(TEXTS)): value for value in inner}


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def damage(draw: random.Random, content: Any) -> Any:
    """A JSON document with one to three of its values replaced, left out, doubled or renamed."""
    for _ in range(draw.randint(1, 3)):
        content = _change(draw, content)
    return content


def _change(draw: random.Random, content: Any) -> Any:
    if isinstance(content, dict) and content and draw.random() < 0.9:
        name = draw.choice(list(content))
        changed = dict(content)
        how = draw.random()
        if how < 0.7:
            changed[name] = _change(draw, content[name])
        elif how < 0.8:
            del changed[name]
        elif how < 0.9:
            changed[str(draw.choice(TEXTS))] = strange(draw)
        else:
            changed[name] = content[draw.choice(list(content))]
        return changed
    if isinstance(content, list) and content and draw.random() < 0.8:
        place = draw.randrange(len(content))
        return [*content[:place], _change(draw, content[place]), *content[place + 1 :]]
    return strange(draw)


def cut(draw: random.Random, data: bytes) -> bytes:
    """Bytes with some changed, or cut short."""
    changed = bytearray(data)
    for _ in range(draw.randint(0, 4)):
        if changed:
            changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed[: draw.randrange(len(changed) + 1)] if draw.random() < 0.5 else changed)


@contextmanager
def bounded() -> Iterator[None]:
    """What takes too long, or too much memory, fails. For the main thread."""

    def late(*_: Any) -> None:
        raise AssertionError(f"not done after {SECONDS} s")

    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    old = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + GIBIBYTES * 2**30, hard))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, old)
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
