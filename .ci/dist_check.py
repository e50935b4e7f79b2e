"""Builds wheel and sdist, installs each in a clean environment outside the checkout, and edits an image.

`make dist-check` runs it. The environment gets torch and the other dependencies once; then the wheel is
replaced by the sdist.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NEEDED = ("earl/world/model/earl.json", "earl/world/model/policy/model.safetensors", "earl/py.typed")


def run(*words: str | Path, folder: Path) -> None:
    """A command in a folder, without what this process adds to Python's path."""
    print("+", *words, flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([str(word) for word in words], cwd=folder, env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--constraint", type=Path, help="pip's constraints, such as torch's version")
    options = parser.parse_args()
    constraint = ["--constraint", options.constraint.resolve()] if options.constraint else []
    with tempfile.TemporaryDirectory(prefix="earl-dist-") as name:
        folder = Path(name)
        run(sys.executable, "-m", "build", "--outdir", folder, ROOT, folder=folder)
        wheel, sdist = next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))
        check_contents(wheel, sdist)
        run(sys.executable, "-m", "venv", folder / "venv", folder=folder)
        python, earl = folder / "venv" / "bin" / "python", folder / "venv" / "bin" / "earl"
        pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "-qq")
        for number, package in enumerate((wheel, sdist)):
            again = ["--force-reinstall", "--no-deps"] if number else []
            run(*pip, *constraint, *again, package, folder=folder)
            run(earl, "demo", "-o", f"{number}.png", folder=folder)
            assert (folder / f"{number}.png").stat().st_size > 1000, f"{package.name} wrote no image"
        assert (folder / "0.png").read_bytes() == (folder / "1.png").read_bytes(), "two images of one edit"
    print(f"{wheel.name} and {sdist.name} install and edit")


def check_contents(wheel: Path, sdist: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        sources = {member.partition("/src/")[2] for member in archive.getnames()}
    for name in NEEDED:
        assert name in names, f"{wheel.name} lacks {name}"
        assert name in sources, f"{sdist.name} lacks src/{name}"
    assert not [name for name in names if name.startswith("tests")], f"{wheel.name} holds tests"


if __name__ == "__main__":
    main()
