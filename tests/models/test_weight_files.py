"""Which files hold weights, and which are refused."""

import json

import pytest

from earl.errors import ModelFormatError, ModelNotFoundError
from earl.models.weight_files import weight_files


def index(folder, names):
    content = {"weight_map": {f"w{i}": name for i, name in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(content))


def test_shards_in_the_order_of_the_index_and_a_whole_file_before_it(tmp_path):
    for name in ("b.safetensors", "a.safetensors"):
        (tmp_path / name).touch()
    index(tmp_path, ["b.safetensors", "a.safetensors", "b.safetensors"])
    assert [file.name for file in weight_files(tmp_path)] == ["b.safetensors", "a.safetensors"]
    (tmp_path / "model.safetensors").touch()
    assert weight_files(tmp_path) == [tmp_path / "model.safetensors"]


def test_an_index_cannot_lead_out_of_its_folder(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (tmp_path / "x.safetensors").touch()
    index(folder, ["../x.safetensors"])
    with pytest.raises(ModelNotFoundError, match=r"m/x\.safetensors is missing"):
        weight_files(folder)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_an_index_without_shards(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelFormatError, match="no weight_map"):
        weight_files(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "last.ckpt", "w.pkl", "w.pth"])
def test_pickles_are_refused_and_nothing_is_missing_weights(tmp_path, name):
    with pytest.raises(ModelNotFoundError, match=r"no model\.safetensors"):
        weight_files(tmp_path)
    (tmp_path / name).touch()
    with pytest.raises(ModelFormatError, match="pickled"):
        weight_files(tmp_path)
