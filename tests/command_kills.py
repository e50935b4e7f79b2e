"""`earl …` processes that are killed from outside with SIGKILL, and what the folders they leave hold.

A nursery imports what the commands need, once, and forks a process for each command, which runs the
package's `__main__` with the words it was given. So a kill hits the command's work and not its imports.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from earl.data.prepare import REJECTED
from earl.data.shards import PART, load_shards

_NURSERY = r"""
import json, os, runpy, sys
import earl.reasoning.annotate, earl.data.prepare, earl.world.shards, earl.pipeline
import earl.evaluation.run, earl.jobs
import earl.training.sft.train, earl.training.dpo.train, earl.training.tokenizer.train
from earl.vision.loading import load_vision_tokenizer
load_vision_tokenizer(sys.argv[1], device="cpu")
print("ready", flush=True)
for line in sys.stdin:
    words, log = json.loads(line)
    pid = os.fork()
    if pid == 0:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0), os.dup2(file, 1), os.dup2(file, 2)
        sys.argv = ["earl", *words]
        code = 70
        try:
            runpy.run_module("earl", run_name="__main__", alter_sys=True)
        except SystemExit as leaving:
            code = leaving.code or 0
        finally:
            os._exit(code)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Nursery:
    """Starts commands and kills them.

    Args:
        vision: a model folder whose tokenizer is loaded beforehand, for what loading imports.
        log: file that the commands print into.
    """

    def __init__(self, vision: Path, log: Path) -> None:
        self.log = log
        self.kills = 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a fork must not find torch's threads
        self._process = subprocess.Popen(
            [sys.executable, "-c", _NURSERY, str(vision)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env=environment,
        )
        assert self._line() == "ready"

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)

    def run(self, words: Sequence[str], *, kill_after: float | None = None) -> int:
        """Run `earl WORDS`, killed after so many seconds if it still runs then.

        Returns:
            Its exit code; -9 where it was killed.
        """
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write((json.dumps([list(words), str(self.log)]) + "\n").encode())
        pid = int(self._line())
        if kill_after is not None and not select.select([self._process.stdout], [], [], kill_after)[0]:
            with suppress(ProcessLookupError):  # it ended meanwhile; its code says so
                os.kill(pid, signal.SIGKILL)
        code = int(self._line())
        self.kills += code == -signal.SIGKILL
        return code

    def _line(self) -> str:
        assert self._process.stdout
        line = self._process.stdout.readline().decode().strip()
        assert line, f"the nursery is gone; see {self.log}"
        return line


@contextmanager
def nursery(vision: Path, log: Path) -> Iterator[Nursery]:
    """A `Nursery` that ends with the block."""
    made = Nursery(vision, log)
    try:
        yield made
    finally:
        made.close()


def kill_at_random(
    nursery: Nursery,
    command: Callable[[Path], Sequence[str]],
    root: Path,
    *,
    kills: int,
    each: int = 3,
    seed: int | None = None,
) -> tuple[Path, list[Path]]:
    """Run a command once without a kill, then with kills at random moments until there were `kills`.

    Args:
        command: the words for an output folder.
        each: kills of one folder at most; then it is run to its end.
        seed: of the moments; a new one at each call when None. It is printed.

    Returns:
        The folder of the run without a kill, and those of the others, all finished.
    """
    whole = root / "whole"
    began = time.monotonic()
    assert nursery.run(command(whole)) == 0, nursery.log.read_text()[-2000:]
    seconds = time.monotonic() - began
    seed = random.SystemRandom().randrange(2**31) if seed is None else seed
    print(f"kills at random moments, seed={seed}")
    draw = random.Random(seed)
    folders: list[Path] = []
    before = nursery.kills
    while nursery.kills - before < kills:
        assert len(folders) < 10 * kills, "the command is too quick to be killed"
        folder = root / f"killed-{len(folders)}"
        folders.append(folder)
        for _ in range(each):
            code = nursery.run(command(folder), kill_after=draw.uniform(0, seconds))
            assert code in (0, -signal.SIGKILL), nursery.log.read_text()[-2000:]
            if code == 0:
                break
        else:
            assert nursery.run(command(folder)) == 0, nursery.log.read_text()[-2000:]
    return whole, folders


def contents(folder: Path) -> dict[str, Any]:
    """All that a folder of shards holds, shard by shard and row by row, but for what varies by itself
    (the fingerprints that `datasets` draws)."""
    shards = sorted(folder.glob("shard-*"))
    rows = load_shards(folder).dataset.with_format(None)
    return {
        "rows": rows.to_list(),
        "shards": [shard.name for shard in shards],
        "parts": [(shard / PART).read_text() for shard in shards if (shard / PART).exists()],
        "manifest": (folder / "shards.json").read_text(),
        "card": json.loads((folder / "card.json").read_text()),
        "rejected": (folder / REJECTED).read_text() if (folder / REJECTED).exists() else "",
        "leftovers": [path.name for path in folder.glob(".partial-*")],
    }
