"""Imports run one way, down the floors that docs/architecture.md lists; light rooms stay light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "earl"
HEAVY = {"torch", "transformers", "accelerate", "peft", "datasets", "tensorboard"}
TORCH_FREE = {"errors", "records", "registry", "files", "progress", "config", "sequence", "world"}
LIGHT_AT_IMPORT = ("earl", "earl.cli", "earl.errors", "earl.records", "earl.pipeline")
LIGHT_AT_IMPORT += ("earl.cli.edit", "earl.cli.evaluate", "earl.cli.data", "earl.world.commands")
MAY_NAME_THE_WORLD = {"world", "cli"}
SHORT = ("src", "experiments", "examples", "recipes", "benchmarks")
LONGEST_FILE, LONGEST_FUNCTION, MOST_PARAMETERS = 400, 80, 8


def floors() -> dict[str, int]:
    """Room -> floor, from the table of the page."""
    rows = re.findall(r"^\|\s*(\d)\s*\|([^|]*)\|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    return {name: int(floor) for floor, rooms in rows for name in re.findall(r"`(\w+)[/.\w]*`", rooms)}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def trees() -> dict[Path, ast.Module]:
    """Every file of every room, parsed; the package's own `__init__` and `__main__` are no room."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.parent != PACKAGE or path.name[0] != "_"]
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def module_of(path: Path) -> str:
    return ".".join(("earl", *path.relative_to(PACKAGE).with_suffix("").parts))


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


def imports() -> Iterator[tuple[Path, str, bool, int]]:
    for path, tree in trees().items():
        for name, top, line in imported(tree, module_of(path)):
            yield path, name, top, line


def at(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def test_the_page_and_the_package_name_the_same_rooms():
    assert set(floors()) == {room_of(path) for path in trees()}


def test_imports_go_down():
    """To a lower floor; on floor 0 everything may raise what `errors` declares."""
    floor_of, wrong = floors(), []
    for path, name, _, line in imports():
        room, parts = room_of(path), name.split(".")
        if parts[0] != "earl" or len(parts) == 1 or parts[1] not in floor_of or parts[1] == room:
            continue
        if floor_of[parts[1]] >= floor_of[room] and not (floor_of[room] == 0 and parts[1] == "errors"):
            wrong.append(
                f"{at(path, line)}: {room} (floor {floor_of[room]}) imports {parts[1]} "
                f"(floor {floor_of[parts[1]]})"
            )
    assert not wrong, "\n".join(wrong)


def test_the_core_does_not_know_the_world():
    """Neither an import nor a dotted name in a string: it asks the registry."""
    wrong = [
        at(path, number)
        for path in trees()
        if room_of(path) not in MAY_NAME_THE_WORLD
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"earl\.world\b", line)
    ]
    assert not wrong, "\n".join(wrong)


def test_rooms_without_torch_never_name_it():
    """The command line may import a library inside a command; the world may write shards with `datasets`."""
    wrong = []
    for path, name, top, line in imports():
        room, library = room_of(path), name.split(".")[0]
        named = library in HEAVY and (room in TORCH_FREE or (room == "cli" and top))
        if named and (room, library) != ("world", "datasets"):
            wrong.append(f"{at(path, line)}: {room} imports {library}")
    assert not wrong, "\n".join(wrong)


def test_a_rule_breaker_is_found():
    source = "from earl.cli import main\nimport torch\ndef f():\n    from earl import pipeline\n"
    found = list(imported(ast.parse(source), "earl.world.scene"))
    assert ("earl.cli", True, 1) in found
    assert ("torch", True, 2) in found
    assert ("earl.pipeline", False, 4) in found
    relative = list(imported(ast.parse("from ..pipeline import x"), "earl.world.scene"))
    assert relative == [("earl.pipeline", True, 1)]


def too_long(path: Path, tree: ast.Module, lines: int) -> Iterator[str]:
    """What of a file is over the limits; a settings object counts as one parameter, as does `**`."""
    if lines > LONGEST_FILE:
        yield f"{path.relative_to(ROOT)} has {lines} lines, at most {LONGEST_FILE}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or 0) - node.lineno + 1
        if length > LONGEST_FUNCTION:
            yield f"{at(path, node.lineno)}: {node.name} has {length} lines"
        names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        public = node.name[0] != "_" or node.name == "__init__"
        if public and count > MOST_PARAMETERS:
            yield f"{at(path, node.lineno)}: {node.name} takes {count} parameters"


def test_files_and_functions_stay_short():
    paths = [path for folder in SHORT for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(paths) > 200
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    wrong = [w for path, text in texts.items() for w in too_long(path, ast.parse(text), text.count("\n"))]
    assert not wrong, "\n".join(wrong)


def test_a_long_one_is_found():
    many = ", ".join(f"a{number}" for number in range(9))
    source = (
        f"class A:\n    def __init__(self, {many}): ...\n    def _f(self, {many}): ...\ndef g():\n"
        + "    x\n" * 80
    )
    found = list(too_long(ROOT / "a.py", ast.parse(source), 401))
    assert [words.split(": ")[-1] for words in found] == [
        "a.py has 401 lines, at most 400",
        "g has 81 lines",
        "__init__ takes 9 parameters",
    ]


def loaded_by(code: str) -> set[str]:
    program = f"import sys\n{code}\nprint(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600
    )
    return set(result.stdout.splitlines()[-1].split())


def test_importing_is_light():
    assert not loaded_by("\n".join(f"import {module}" for module in LIGHT_AT_IMPORT)) & HEAVY


def test_every_file_of_a_light_room_is_light():
    paths = [path for path in trees() if room_of(path) in TORCH_FREE]
    modules = [module_of(path).removesuffix(".__init__") for path in paths]
    heavy = loaded_by("\n".join(f"import {module}" for module in modules)) & HEAVY
    assert heavy <= {"datasets"}, "the world writes shards with datasets, and needs nothing else"


def test_help_loads_no_heavy_library():
    code = "from earl.cli import main\nassert main(['--help']) == 0"
    assert not loaded_by(code) & (HEAVY | {"numpy", "PIL", "pydantic"})
    code += "\nassert main(['edit', '--help']) == main(['evaluate', '--help']) == 0"
    assert not loaded_by(code) & (HEAVY | {"numpy", "PIL"})


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
