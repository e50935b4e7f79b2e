"""Checkpoints: whole or absent, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from earl.errors import CheckpointError, OutputError
from earl.policy.loading import create_policy
from earl.sequence.vocabulary import Vocabulary
from earl.training import checkpoint
from earl.training.checkpoint import (
    Snapshot,
    list_checkpoints,
    load_snapshot,
    newest_snapshot,
    save_snapshot,
    thin_checkpoints,
)
from earl.training.tensors import load_trained_tensors, trained_tensors


def snapshot(step: int) -> Snapshot:
    weights = {"a.weight": torch.full((3, 2), float(step)), "b": torch.tensor([1.5], dtype=torch.bfloat16)}
    return Snapshot(step, {"model": weights, "optimiser": {}}, {"streams": [{"big": 2**90}], "x": None})


def test_round_trip_is_exact(tmp_path: Path) -> None:
    path = save_snapshot(tmp_path, snapshot(7))
    found = load_snapshot(path)
    assert found.step == 7 and found.state == {"streams": [{"big": 2**90}], "x": None}
    for name, tensor in snapshot(7).tensors["model"].items():
        assert torch.equal(found.tensors["model"][name], tensor)
        assert found.tensors["model"][name].dtype == tensor.dtype
    assert not list(tmp_path.glob(".*")), "nothing half-written is left"


@pytest.mark.parametrize("where", ["save_file", "fsync", "replace"])
def test_full_disk_leaves_the_previous_one_intact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    save_snapshot(tmp_path, snapshot(1))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "save_file":
        monkeypatch.setattr(checkpoint, "save_file", full)
    else:
        monkeypatch.setattr(os, where, full)
    with pytest.raises(OutputError, match=r"step-00000002.*No space left.*intact"):
        save_snapshot(tmp_path, snapshot(2))
    monkeypatch.undo()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]
    assert load_snapshot(tmp_path / "step-00000001").step == 1
    assert not list(tmp_path.glob(".partial*"))


def test_a_killed_save_does_not_count(tmp_path: Path) -> None:
    save_snapshot(tmp_path, snapshot(1))
    (tmp_path / ".partial-step-00000002").mkdir()
    (tmp_path / "step-00000003").mkdir()
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-00000001"]
    save_snapshot(tmp_path, snapshot(2))
    assert load_snapshot(tmp_path / "step-00000002").step == 2


def test_saving_the_same_step_again_replaces_it(tmp_path: Path) -> None:
    save_snapshot(tmp_path, snapshot(4))
    save_snapshot(tmp_path, Snapshot(4, {"model": {"a": torch.ones(1)}}, {}))
    assert list(load_snapshot(tmp_path / "step-00000004").tensors) == ["model"]


@pytest.mark.parametrize(
    "harm", ["truncate", "delete", "garble", "bit", "format", "state", "no object", "no state"]
)
def test_damage_is_one_clear_error(tmp_path: Path, harm: str) -> None:
    path = save_snapshot(tmp_path, snapshot(1))
    weights, state = path / "model.safetensors", path / "state.json"
    if harm == "truncate":
        weights.write_bytes(weights.read_bytes()[:-5])
    elif harm == "delete":
        weights.unlink()
    elif harm == "garble":
        weights.write_bytes(b"\xff" * weights.stat().st_size)
    elif harm == "bit":
        damaged = bytearray(weights.read_bytes())
        damaged[-1] ^= 1
        weights.write_bytes(damaged)
    elif harm == "state":
        state.write_text(state.read_text().replace(str(2**90), str(2**90 + 1)))
    elif harm == "no state":
        state.unlink()
    elif harm == "no object":
        state.write_text("[" * 5000)
    else:
        state.write_text(state.read_text().replace('"format": 2', '"format": 99'))
    with pytest.raises(CheckpointError, match=str(path)):
        load_snapshot(path)
    save_snapshot(tmp_path, snapshot(0))
    found, problems = newest_snapshot(tmp_path)
    assert found is not None and found.step == 0
    assert len(problems) == 1 and str(path) in problems[0], "the one before it, and why"


@pytest.mark.parametrize("link", [True, False])
def test_a_file_in_a_checkpoints_place_is_named(tmp_path: Path, link: bool) -> None:
    save_snapshot(tmp_path, snapshot(1))
    place = tmp_path / "step-00000002"
    place.symlink_to("/no/where") if link else place.write_text("x")
    with pytest.raises(CheckpointError, match=r"step-00000002 is no folder.*remove it"):
        newest_snapshot(tmp_path)


def test_where_nothing_is_intact_the_folder_is_named(tmp_path: Path) -> None:
    assert newest_snapshot(tmp_path) == (None, [])
    (save_snapshot(tmp_path, snapshot(1)) / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* is intact.*begin again"):
        newest_snapshot(tmp_path)


@pytest.mark.parametrize("name", ["read_object", "load_file"])
def test_one_that_may_not_be_read_is_not_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The run would go back to an older one, or tell to remove its folder."""
    for step in (1, 2):
        save_snapshot(tmp_path, snapshot(step))
    read = getattr(checkpoint, name)

    def refused(path: Path, *more: object, **options: object) -> object:
        if "step-00000002" in str(path):
            cause = PermissionError(errno.EACCES, "Permission denied", str(path))
            raise cause if name == "load_file" else CheckpointError("cannot be read") from cause
        return read(path, *more, **options)

    monkeypatch.setattr(checkpoint, name, refused)
    with pytest.raises(PermissionError, match="step-00000002"):
        newest_snapshot(tmp_path)


def test_thinning_keeps_newest_milestones_and_protected(tmp_path: Path) -> None:
    for step in range(1, 9):
        save_snapshot(tmp_path, snapshot(step))
    (tmp_path / ".partial-step-00000009").mkdir()
    thin_checkpoints(tmp_path, keep=2, milestone=4, protected=frozenset({3}))
    assert [int(path.name[-8:]) for path in list_checkpoints(tmp_path)] == [3, 4, 7, 8]
    assert not list(tmp_path.glob(".partial*"))


def test_a_tied_head_is_saved_once_and_comes_back(tmp_path: Path) -> None:
    config = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    vocabulary = Vocabulary.compact(text_size=260, codebook_size=16)
    tied = {**config, "intermediate_size": 48, "tie_word_embeddings": True}
    model, other = create_policy(tied, vocabulary, seed=1), create_policy(tied, vocabulary, seed=2)
    tensors = trained_tensors(model)
    assert "model.embed_tokens.weight" in tensors and "lm_head.weight" not in tensors
    path = save_snapshot(tmp_path, Snapshot(1, {"weights": tensors}, {}))
    load_trained_tensors(other, load_snapshot(path).tensors["weights"])
    assert other.lm_head.weight is other.model.embed_tokens.weight
    assert torch.equal(other.lm_head.weight, model.lm_head.weight)
