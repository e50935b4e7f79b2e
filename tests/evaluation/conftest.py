"""Made benchmarks of real form, editors and verifiers that take no time, and a scripted judge."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def files():
    """Makers of small real files of every source."""
    import source_files

    return source_files


@pytest.fixture(scope="session")
def endpoint():
    """A chat endpoint whose every reply is scripted."""
    import judge_endpoint

    return judge_endpoint
