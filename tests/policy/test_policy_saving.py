import errno
import os

import pytest
import torch

import earl.policy.saving as saving
from earl.errors import ConfigError, ModelFormatError, ModelNotFoundError, OutputError
from earl.models.resolve import resolve_model
from earl.policy.adapters import add_lora
from earl.policy.loading import create_policy, load_policy
from earl.policy.saving import save_policy


def test_a_full_disk_leaves_the_old_model(tmp_path, ids, monkeypatch):
    old = create_policy("tiny", ids, seed=1)
    save_policy(old, tmp_path / "p")
    new = create_policy("tiny", ids, seed=2)

    def full(weights, folder, **_):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(saving, "save_torch_state_dict", full)
    with pytest.raises(OutputError, match="No space left"):
        save_policy(new, tmp_path / "p")
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert torch.equal(load_policy(tmp_path / "p").lm_head.weight, old.lm_head.weight)


def test_saving_replaces_the_whole_folder(tmp_path, ids):
    save_policy(create_policy("tiny", ids, seed=1), tmp_path / "p")
    (tmp_path / "p" / "stale").write_text("x")
    new = create_policy("tiny", ids, seed=2)
    save_policy(new, tmp_path / "p")
    assert not (tmp_path / "p" / "stale").exists()
    assert torch.equal(load_policy(tmp_path / "p").lm_head.weight, new.lm_head.weight)


def test_weights_are_as_readable_as_the_folder_they_lie_in(tmp_path, ids):
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        try:
            save_policy(create_policy("tiny", ids, seed=1), tmp_path / oct(mask))
        finally:
            os.umask(before)
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / oct(mask)).iterdir()}
        assert modes == {0o666 & ~mask}


def test_saving_where_a_file_stands_in_the_way(tmp_path, ids):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="is a file where a folder is needed"):
        save_policy(create_policy("tiny", ids, seed=1), tmp_path / "file" / "p")


@pytest.fixture
def adapted(tmp_path, ids):
    """A base on disk and a trained-looking adapter of it, saved."""
    save_policy(create_policy("tiny", ids, seed=1), tmp_path / "base")
    model = add_lora(load_policy(tmp_path / "base"), 3, ("q_proj", "down_proj"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    save_policy(model, tmp_path / "adapter")
    return model


def test_adapter_round_trip(tmp_path, adapted):
    tokens = torch.arange(10)[None]
    files = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    again = load_policy(tmp_path / "adapter")
    with torch.no_grad():
        assert torch.equal(again(input_ids=tokens).logits, adapted(input_ids=tokens).logits)
        with again.disable_adapter():
            base = load_policy(tmp_path / "base")(input_ids=tokens).logits
            assert torch.equal(again(input_ids=tokens).logits, base)
    found = resolve_model(tmp_path / "adapter")
    assert found.policy_path == tmp_path / "adapter"


def test_adapters_that_cannot_be_used(tmp_path, ids, adapted):
    weights = tmp_path / "adapter" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelFormatError, match="adapter"):
        load_policy(tmp_path / "adapter")
    weights.unlink()
    with pytest.raises(ModelNotFoundError, match=r"adapter_model\.safetensors"):
        load_policy(tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(ModelFormatError, match="pickled"):
        load_policy(tmp_path / "adapter")
    weights.write_bytes(whole)
    save_policy(create_policy({"hidden_size": 32, "num_attention_heads": 2}, ids, seed=0), tmp_path / "base")
    with pytest.raises(ModelFormatError, match="does not fit"):
        load_policy(tmp_path / "adapter")


def test_lora_of_nonsense_is_refused(ids):
    model = create_policy("tiny", ids, seed=1)
    with pytest.raises(ConfigError, match="lm_head"):
        add_lora(model, 4, ("q_proj", "lm_head"))
    with pytest.raises(ConfigError, match="rank 0"):
        add_lora(model, 0)
