"""Imports run one way, down the floors that docs/architecture.md lists; light rooms stay light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "earl"
HEAVY = {"torch", "transformers", "accelerate", "peft", "datasets", "tensorboard"}
TORCH_FREE = ("errors", "records", "config", "sequence", "world", "cli")
LIGHT_AT_IMPORT = ("earl", "earl.cli", "earl.cli.options", "earl.errors", "earl.records", "earl.pipeline")


def floors() -> dict[str, int]:
    """Room -> floor, from the table of the page."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        row = re.match(r"\|\s*(\d)\s*\|([^|]*)\|", line)
        if row:
            found.update({name: int(row[1]) for name in re.findall(r"`(\w+)[/.\w]*`", row[2])})
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def files() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.name[0] != "_"]


def imported(tree: ast.AST, module: str) -> Iterator[tuple[str, bool, int]]:
    """(dotted name, at module level, line) of every import, wherever it stands in a file."""
    top = set(_module_level(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in top, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, base] if base else parents)
            yield base, node in top, node.lineno
            if base == "earl":
                for alias in node.names:
                    yield f"earl.{alias.name}", node in top, node.lineno


def _module_level(tree: ast.AST) -> Iterator[ast.AST]:
    """Statements that run at import: not inside functions, not under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from _module_level(node)


def imports_of(path: Path) -> list[tuple[str, bool, int]]:
    module = ".".join(("earl", *path.relative_to(PACKAGE).with_suffix("").parts))
    return list(imported(ast.parse(path.read_text(encoding="utf-8")), module))


def test_the_page_and_the_package_name_the_same_rooms():
    assert set(floors()) == {room_of(path) for path in files()}


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    floor_of = floors()
    room = room_of(path)
    for name, _, line in imports_of(path):
        parts = name.split(".")
        if parts[0] != "earl" or len(parts) == 1 or parts[1] == room or parts[1] not in floor_of:
            continue
        assert floor_of[parts[1]] < floor_of[room], (
            f"{path.relative_to(ROOT)}:{line}: {room} (floor {floor_of[room]}) imports "
            f"{parts[1]} (floor {floor_of[parts[1]]})"
        )


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_without_torch_never_name_it(path):
    room = room_of(path)
    if room not in TORCH_FREE:
        return
    # The command line may reach for a library inside a command, never when it is imported.
    names = {n.split(".")[0] for n, top, _ in imports_of(path) if top or room != "cli"}
    assert not names & HEAVY


def test_a_rule_breaker_is_found():
    source = "from earl.cli import main\nimport torch\ndef f():\n    from earl import pipeline\n"
    found = list(imported(ast.parse(source), "earl.world.scene"))
    assert ("earl.cli", True, 1) in found
    assert ("torch", True, 2) in found
    assert ("earl.pipeline", False, 4) in found
    relative = list(imported(ast.parse("from ..pipeline import x"), "earl.world.scene"))
    assert relative == [("earl.pipeline", True, 1)]


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("module", LIGHT_AT_IMPORT)
def test_importing_is_light(module):
    assert not loaded_by(f"import {module}") & HEAVY


@pytest.mark.parametrize("room", ["config", "sequence", "world"])
def test_every_file_of_a_light_room_is_light(room):
    modules = [
        ".".join(("earl", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted((PACKAGE / room).rglob("*.py"))
    ]
    assert modules
    assert not loaded_by("\n".join(f"import {module}" for module in modules)) & HEAVY


def test_help_loads_no_heavy_library():
    code = "from earl.cli import main\nassert main(['--help']) == 0\nassert main(['edit', '--help']) == 0"
    assert not loaded_by(code) & (HEAVY | {"numpy", "PIL", "pydantic"})


def test_an_edit_imports_neither_transformers_nor_the_compiler():
    """Both take longer to import than an edit takes."""
    code = (
        "from PIL import Image\nfrom earl import EditPipeline\n"
        "pipeline = EditPipeline.from_pretrained('world', device='cpu')\n"
        "pipeline(Image.new('RGB', (64, 64)), 'make it night')\n"
        "assert not {'torch._dynamo', 'torch.distributed.tensor', 'sympy'} & set(sys.modules)"
    )
    heavy = loaded_by(code) & (HEAVY | {"torchao", "huggingface_hub", "scipy", "pandas"})
    assert heavy == {"torch"}
