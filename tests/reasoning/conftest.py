"""A prepared set of two shards; the judge's endpoint and the sources' files can be imported here too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def prepared(tmp_path) -> Path:
    """Two shards of three edits; the second has one without a target."""
    from reasoning_set import edit, write_set

    last = edit(5, target_codes=np.zeros((0, 0), np.int32))
    return write_set(tmp_path / "in", [[edit(i) for i in range(3)], [edit(3), edit(4), last]])
