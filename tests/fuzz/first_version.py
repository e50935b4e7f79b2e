"""The fuzzers' generators on the package as it was at commit 50ae76f, which had the faults they look for.

    git worktree add --detach ../first 50ae76f
    PYTHONPATH=../first/src:.:tests/support python -m tests.fuzz.first_version images 300

Names moved since, so the generators are taken from the sources of the tests beside this file, without their
imports of the package. Judges' answers need no such help (`judge_answers`, `--reader`).
"""

from __future__ import annotations

import ast
import asyncio
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tests.fuzz import strange
from tests.fuzz.strange import bounded, cut, damage, seeded

HERE = Path(__file__).parent
FIRST = Path(import_module("earl").__file__).parents[2]
strange.SECONDS, strange.GIBIBYTES = 12, 3


def generators(name: str) -> dict[str, Any]:
    """What a test file defines, without what it imports of the package."""
    tree = ast.parse((HERE / name).read_text())
    own = ("earl", "edit_session")
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in own)
    ]
    names: dict[str, Any] = {"__name__": name, "__file__": str(HERE / name)}
    exec(compile(tree, name, "exec"), names)
    return names


def images(room: Path) -> Iterator[Callable[[], str | None]]:
    import numpy as np
    from PIL import EpsImagePlugin

    made, draw, started = generators("test_fuzz_data.py"), seeded("images"), []
    open_image = import_module("earl.vision.images").open_image
    EpsImagePlugin.Ghostscript = lambda *words, **more: started.append(words)

    def one() -> str | None:
        how = draw.random()
        if how < 0.1:
            before = len(started)
            try:
                open_image(made["program_file"](draw))
            finally:
                if len(started) > before:
                    raise RuntimeError("Ghostscript is started")
        elif how < 0.2:
            data, numbers = made["float_file"](draw)
            bright = np.asarray(open_image(data)).max() > 200
            return None if bright and numbers else "black" if numbers else "no number, and an image"
        else:
            open_image(made["image_file"](draw))
        return None

    while True:
        yield one


def rows(room: Path) -> Iterator[Callable[[], str | None]]:
    import json

    import source_files as files

    made, draw = generators("test_fuzz_data.py"), seeded("rows")
    open_source = import_module("earl.data.sources.opening").open_source
    settings = import_module("earl.data.tokenise").Preparation(area=32 * 32, max_rejected=1.0)
    good = {"id": "a", "source": "0.png", "target": "0-after.png", "instruction": "add"}

    def one() -> None:
        home = Path(tempfile.mkdtemp(dir=room))
        files.own_folder(home / "own", 1)
        odd = {name: made["cell"](draw) for name in draw.sample([*good, "family", "group", "mask"], 3)}
        lines = [json.dumps(row) for row in (good, {**good, **odd}, {**good, "id": "b"})]
        (home / "own" / "metadata.jsonl").write_text("\n".join(lines))
        source = open_source(str(home / "own"))
        import_module("earl.data.prepare").prepare_source(source, home / "out", files.Marks(), settings)

    while True:
        yield one


def recipes(room: Path) -> Iterator[Callable[[], str | None]]:
    import tomli_w
    import tomllib

    made, draw = generators("test_fuzz_recipes.py"), seeded("recipes")
    stages, check = import_module("earl.config.stages"), import_module("earl.config.recipe").check
    tables = [tomllib.loads(path.read_text()) for path in sorted((FIRST / "recipes").rglob("*.toml"))]
    tables = [table for table in tables if table.get("stage") in stages.STAGES]

    def one() -> None:
        table, path = draw.choice(tables), room / "recipe.toml"
        if draw.random() < 0.5:
            spoilt = damage(draw, table)
            check(stages.STAGES[table["stage"]], spoilt if isinstance(spoilt, dict) else {"stage": spoilt})
            return
        path.write_bytes(tomli_w.dumps(table).encode())
        words = [made["override"](draw, table)] if draw.random() < 0.8 else []
        if not words:
            path.write_bytes(cut(draw, path.read_bytes()))
        recipe = stages.load_stage(path, words)
        import_module("earl.cli").main(["train", recipe.stage, str(path), *words, "--dry-run"])

    while True:
        yield one


def requests(room: Path) -> Iterator[Callable[[], str | None]]:
    made, draw = generators("test_fuzz_server.py"), seeded("requests")
    app = import_module("earl.serving.verifier").verifier_app(
        import_module("earl.verifier.scene").SceneVerifier()
    )
    logging.disable()

    def one() -> str | None:
        scope, parts = made["request"](draw)
        scope["path"] = scope["path"].replace("images/edits", "chat/completions")
        leaves = draw.randrange(len(parts)) if draw.random() < 0.05 else None
        status, body = asyncio.run(made["send"](app, scope, parts, leaves))
        known = status in made["REASONS"] | {0, 200, 307}
        return f"HTTP {status}" if not known else "100 kB" if len(body) > 100_000 else None

    while True:
        yield one


def models(room: Path) -> Iterator[Callable[[], str | None]]:
    from PIL import Image

    made, draw = generators("test_fuzz_models.py"), seeded("models")
    kinds = made["make_kinds"](FIRST / "src/earl/models/world", room)  # which also imports what it loads with
    pipeline, image = import_module("earl.pipeline").EditPipeline, Image.new("RGB", (16, 16), "red")

    def one() -> None:
        folder = Path(tempfile.mkdtemp(dir=room)) / "model"
        made["strangers_folder"](draw, kinds, folder)
        pipeline.from_pretrained(folder)(image, "make it blue")

    while True:
        yield one


def main(kind: str, count: str) -> None:
    mistake, found = import_module("earl.errors").EarlError, Counter[str]()
    with tempfile.TemporaryDirectory() as room:
        for _, one in zip(range(int(count)), globals()[kind](Path(room)), strict=False):
            try:
                with bounded():
                    problem = one()
            except mistake:
                continue
            except BaseException as error:  # whatever is raised is what we look for
                problem = f"{type(error).__name__}: {str(error)[:50]}"
            found.update([problem] if problem else [])
    print(f"{kind}: {found.total()} of {count}", *found.most_common(5), sep="\n", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
