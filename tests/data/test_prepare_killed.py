"""A preparation that is killed, or that another process is at; its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import source_files as files
from source_files import Marks, rejected

from earl.config.data import PreparationSettings
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards
from earl.data.sources.opening import open_source
from earl.errors import OutputError

SMALL = PreparationSettings(area=32 * 32, shard_rows=2, batch=2)


def test_one_process_at_a_time(tmp_path):
    import fcntl

    path = files.write_parquet(files.rows_of("omniedit"), tmp_path / "x.parquet")
    prepare_source(open_source("omniedit", path=path), tmp_path / "out", Marks(), SMALL)
    with (tmp_path / "out" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OutputError, match="another process"):
            prepare_source(open_source("omniedit", path=path), tmp_path / "out", Marks(), SMALL)


KILLER = r"""
import os, shutil, signal, sys, json
sys.path.insert(0, sys.argv[2])
import numpy as np
from pathlib import Path
import earl.data.prepare as prepare, earl.data.shards as shards
from earl.data.sources.opening import open_source
from source_files import Marks

root = Path(sys.argv[1])
settings = prepare.PreparationSettings(area=1024, shard_rows=3, batch=2, max_rejected=0.9)

def work(out, fatal):
    left = [fatal]
    def step():
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def before_and_after(owner, name):
        real = getattr(owner, name)
        def wrapped(*a, **k):
            step(); result = real(*a, **k); step(); return result
        setattr(owner, name, wrapped)
    for owner, name in ((os, "replace"), (shutil, "rmtree"), (prepare, "append_lines"), (os, "fsync"),
                        (shards.Dataset, "save_to_disk"), (Marks, "encode")):
        before_and_after(owner, name)
    prepare.prepare_source(open_source(str(root / "data")), out, Marks(), settings)

def child(out, fatal):
    pid = os.fork()
    if pid == 0:
        try:
            work(out, fatal)
        except BaseException as error:
            print(repr(error), file=sys.stderr); os._exit(3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

assert child(root / "whole", 0) == 0
kills = 0
for fatal in range(1, 40, 3):  # each time another moment, in a folder of its own, then to the end
    out = root / f"killed-{fatal}"
    code = child(out, fatal)
    kills += code == -signal.SIGKILL
    while code != 0:
        assert code == -signal.SIGKILL, code
        code = child(out, 0)
out, fatal = root / "again-and-again", 12
while (code := child(out, fatal)) != 0:  # and one that is killed until it is through
    assert code == -signal.SIGKILL, code
    kills, fatal = kills + 1, fatal + 1
print(json.dumps(kills))
"""


def test_killed_at_any_moment_nothing_is_lost_or_doubled(tmp_path):
    files.own_folder(tmp_path / "data", 14)
    table = tmp_path / "data" / "metadata.jsonl"
    lines = table.read_text().splitlines()
    lines[4] = json.dumps({"id": "bad", "source": "nowhere.png", "instruction": "x"})
    table.write_text("\n".join(lines))
    run = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path), str(Path(files.__file__).parent)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert json.loads(run.stdout.splitlines()[-1]) >= 10
    whole = list(load_shards(tmp_path / "whole"))
    assert [edit.id for edit in whole] == [f"own-{i}" for i in range(14) if i != 4]
    folders = [path for path in tmp_path.iterdir() if "kill" in path.name or "again" in path.name]
    assert len(folders) == 14
    for folder in folders:
        found = list(load_shards(folder))
        assert Counter(e.id for e in found) == Counter(e.id for e in whole)
        assert [e.source_hash for e in found] == [e.source_hash for e in whole]
        assert all(np.array_equal(a.target_codes, b.target_codes) for a, b in zip(found, whole, strict=True))
        assert [entry["id"] for entry in rejected(folder)] == ["bad"]
        assert not list(folder.glob(".partial-*"))


def test_memory_does_not_grow_with_the_source(tmp_path, monkeypatch):
    """Only a batch of images is alive at once, whatever a shard holds."""
    import weakref

    import earl.data.tokenise as module
    from earl.data.sources.opening import OpenedSource
    from earl.data.sources.own import own_schema

    born, alive = [], []
    opening = module.open_image

    def watched(image):
        opened = opening(image)
        born.append(weakref.ref(opened))
        return opened

    class Made:
        name, quick, files = "made", False, ()

        def read(self, start=0, columns=None):
            for number in range(start, 100):
                alive.append(sum(picture() is not None for picture in born))
                yield {"id": number, "source": files.png(files.picture(number % 7)), "instruction": "x"}

        def count(self):
            return None

    monkeypatch.setattr(module, "open_image", watched)
    settings = PreparationSettings(area=96 * 64, shard_rows=100, batch=4)
    source = OpenedSource(own_schema("made"), Made(), None)
    assert prepare_source(source, tmp_path / "out", Marks(), settings).edits == 100
    assert len(born) == 100
    assert max(alive) <= 8
