import json
import subprocess
import sys

import pytest

import earl.models.resolve as models
from earl.errors import ModelFormatError, ModelNotFoundError
from earl.models.resolve import resolve_model


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def ours(folder, **meta):
    write(folder / "earl.json", {"format": 1, "area": 4096, **meta})
    write(folder / "policy" / "config.json", {"model_type": "emu3_text_model"})
    write(folder / "vision" / "config.json", {"model_type": "emu3_vqgan"})
    write(folder / "tokenizer.json", {})
    return folder


def test_our_folder(tmp_path):
    found = resolve_model(ours(tmp_path / "m", licence="Apache-2.0"))
    assert found.policy_path == tmp_path / "m" / "policy"
    assert found.vision_path == tmp_path / "m" / "vision"
    assert found.tokenizer_path == tmp_path / "m"
    assert found.meta["licence"] == "Apache-2.0"


def test_parts_that_are_absent_are_none_and_named_when_needed(tmp_path):
    write(tmp_path / "m" / "earl.json", {"format": 1})
    found = resolve_model(str(tmp_path / "m"))
    assert (found.policy_path, found.tokenizer_path, found.vision_path) == (None, None, None)
    with pytest.raises(ModelNotFoundError, match="BAAI/Emu3-VisionTokenizer"):
        found.need("vision")


@pytest.mark.parametrize("model_type", ["Emu3", "emu3_text_model", "emu3"])
def test_a_bare_policy_with_parts_from_elsewhere(tmp_path, model_type):
    write(tmp_path / "p" / "config.json", {"model_type": model_type})
    write(tmp_path / "v" / "config.json", {"model_type": "Emu3VisionVQ"})
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "emu3.tiktoken").write_text("")
    found = resolve_model(tmp_path / "p", tokenizer=tmp_path / "t", vision=tmp_path / "v")
    assert found.need("policy") == tmp_path / "p"
    assert found.need("tokenizer") == tmp_path / "t"
    assert found.need("vision") == tmp_path / "v"
    with pytest.raises(ModelNotFoundError, match="BAAI/Emu3-Stage1"):
        resolve_model(tmp_path / "p").need("tokenizer")


@pytest.mark.parametrize("base", ["absolute", "../m"])
def test_an_adapter_takes_its_other_parts_from_its_base(tmp_path, base):
    ours(tmp_path / "m")
    base = str(tmp_path / "m") if base == "absolute" else base
    write(tmp_path / "a" / "adapter_config.json", {"base_model_name_or_path": base})
    found = resolve_model(tmp_path / "a")
    assert found.policy_path == tmp_path / "a"
    assert found.vision_path.resolve() == tmp_path / "m" / "vision"
    write(tmp_path / "a" / "adapter_config.json", {})
    with pytest.raises(ModelFormatError, match="base_model_name_or_path"):
        resolve_model(tmp_path / "a")
    write(tmp_path / "a" / "adapter_config.json", {"base_model_name_or_path": str(tmp_path / "a")})
    with pytest.raises(ModelFormatError, match="itself"):
        resolve_model(tmp_path / "a")


def test_wrong_names_say_what_to_do(tmp_path, monkeypatch):
    for name in ("nothing-here", "./no/such/folder", str(tmp_path / "none"), "", "a/b/c"):
        with pytest.raises(ModelNotFoundError):
            resolve_model(name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelNotFoundError, match="no model folder"):
        resolve_model(tmp_path / "empty")
    (tmp_path / "run" / "model").mkdir(parents=True)
    with pytest.raises(ModelNotFoundError, match=r"a run's model is in .*run/model"):
        resolve_model(tmp_path / "run")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="folder that holds"):
        resolve_model(tmp_path / "model.safetensors")
    write(tmp_path / "l" / "config.json", {"model_type": "llama"})
    with pytest.raises(ModelFormatError, match="llama"):
        resolve_model(tmp_path / "l")
    write(tmp_path / "n" / "earl.json", {"format": 99})
    with pytest.raises(ModelFormatError, match="99"):
        resolve_model(tmp_path / "n")
    (tmp_path / "n" / "earl.json").write_text("[1]")
    with pytest.raises(ModelFormatError, match="list"):
        resolve_model(tmp_path / "n")
    monkeypatch.setattr(type(models.MODELS), "load", lambda registry, name: tmp_path / "gone")
    with pytest.raises(ModelNotFoundError, match="reinstall"):
        resolve_model("world")


def test_the_shipped_model_is_found_by_its_word(tmp_path, monkeypatch):
    monkeypatch.setattr(type(models.MODELS), "load", lambda registry, name: ours(tmp_path / "w"))
    assert resolve_model("world").policy_path == tmp_path / "w" / "policy"


def test_the_hub_is_asked_only_for_what_is_wanted(tmp_path, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot(name, revision=None, allow_patterns=()):
        asked.append((name, revision, tuple(allow_patterns)))
        return str(tmp_path / "snap")

    write(tmp_path / "snap" / "config.json", {"model_type": "Emu3"})
    (tmp_path / "snap" / "emu3.tiktoken").write_text("")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert resolve_model("someone/model", "main").need("policy") == tmp_path / "snap"
    resolve_model("someone/model", parts=("tokenizer",))
    assert asked[0][:2] == ("someone/model", "main")
    assert "*.safetensors" in asked[0][2] and "*.safetensors" not in asked[1][2]
    assert not any("bin" in pattern or "py" in pattern for _, _, patterns in asked for pattern in patterns)
    resolve_model(tmp_path / "snap")
    assert len(asked) == 2


def test_no_connection_is_one_sentence(monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ModelNotFoundError, match="hf download someone/model") as caught:
        resolve_model("someone/model")
    assert "\n" not in str(caught.value)


def test_the_page_imports_nothing_heavy():
    heavy = "('torch', 'transformers', 'huggingface_hub')"
    code = f"import sys, earl.models.resolve; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
