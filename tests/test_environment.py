"""What is said of the machine and its libraries, and importing torch."""

import gc

import pytest

from earl.environment import import_torch, versions


@pytest.mark.parametrize("collecting", [True, False])
def test_importing_torch_leaves_the_garbage_collector_as_it_was(collecting):
    was = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        import_torch()
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if was else gc.disable)()
        gc.unfreeze()


def test_versions_name_what_computes():
    assert {"earl", "python", "torch", "numpy"} <= versions().keys()
