"""Made benchmarks of real form, editors and verifiers that take no time, and a scripted judge."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent


def _module(path: Path):
    """A helper of another room's tests, by its file."""
    name = f"shared_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def files():
    """Makers of small real files of every source."""
    return _module(TESTS / "data_room" / "source_files.py")


@pytest.fixture(scope="session")
def endpoint():
    """A chat endpoint whose every reply is scripted."""
    return _module(TESTS / "verifier" / "verifier_endpoint.py")
