"""Model folders of strangers: odd values, links that lead out, adapters on the head."""

from __future__ import annotations

import json
import shutil

import pytest

from earl.errors import InstructionError, ModelFormatError
from earl.models.resolve import resolve_model
from earl.models.weight_files import copy_files, weight_files
from earl.policy.loading import load_policy
from earl.vision.loading import load_vision_tokenizer
from earl.world.model import FOLDER


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_adapters_on_head_or_embedding_are_refused(target, tmp_path):
    from peft import LoraConfig, get_peft_model

    policy = load_policy("world")
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", target], task_type="CAUSAL_LM")
    get_peft_model(policy, config).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**written, "base_model_name_or_path": "world"}))
    with pytest.raises(ModelFormatError, match=rf"changes {target}.*cannot be used"):
        load_policy(tmp_path)


def test_links_that_lead_out_are_not_followed(tmp_path):
    vision, secret = tmp_path / "vision", tmp_path / "secret.json"
    shutil.copytree(FOLDER / "vision", vision)
    (vision / "pytorch_model.bin").write_bytes(b"pickle")
    (vision / "notes").symlink_to(tmp_path)
    (tmp_path / "out").mkdir()
    copy_files(vision, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "config.json", "preprocessor_config.json", "model.safetensors",
    }  # fmt: skip
    secret.write_text("{}")
    (vision / "preprocessor_config.json").unlink()
    (vision / "preprocessor_config.json").symlink_to(secret)
    with pytest.raises(ModelFormatError, match=r"link that leads out|link out of its folder"):
        copy_files(vision, tmp_path / "out")


def test_links_of_the_hubs_cache_are_followed(tmp_path):
    place, blobs = tmp_path / "models--a--b" / "snapshots" / "abc", tmp_path / "models--a--b" / "blobs"
    place.mkdir(parents=True)
    blobs.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(FOLDER / "vision" / name, blobs / name)
        (place / name).symlink_to(blobs / name)
    (tmp_path / "out").mkdir()
    copy_files(place, tmp_path / "out")
    assert not (tmp_path / "out" / "config.json").is_symlink()


@pytest.mark.parametrize(
    "content",
    ["[]", "{", "[" * 50_000, '{"area": "big"}', '{"area": true}', '{"area": -1}', '{"temperature": 0}',
     '{"temperature": [1]}', '{"vocabulary": 3}', '{"format": true, "parts": {}}', '{"format": -1}',
     '{"area": ' + "9" * 5000 + "}"],
)  # fmt: skip
def test_values_of_earl_json_that_are_odd(content, tmp_path):
    (tmp_path / "earl.json").write_text(content)
    with pytest.raises(ModelFormatError, match=r"earl\.json"):
        resolve_model(tmp_path)


@pytest.mark.parametrize("value", [None, 3, [], {}, "", "\0", "x" * 300])
def test_values_of_a_weight_map_that_are_odd(value, tmp_path):
    index = {"weight_map": {"a": value}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFormatError, match="weight_map"):
        weight_files(tmp_path)


@pytest.fixture
def policy_copy(tmp_path):
    shutil.copytree(FOLDER / "policy", tmp_path / "policy")
    return tmp_path / "policy"


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_hidden_layers", 10**9), ("num_hidden_layers", 10**6), ("hidden_size", "64"), ("vocab_size", -1),
     ("num_attention_heads", 0), ("intermediate_size", True), ("rms_norm_eps", "x"), ("rope_theta", "x"),
     ("rope_parameters", 3), ("tie_word_embeddings", "yes"), ("head_dim", [1])],
)  # fmt: skip
def test_values_of_a_policys_config_that_are_odd(field, value, policy_copy):
    config = json.loads((policy_copy / "config.json").read_text())
    if field == "rope_theta":
        config.pop("rope_parameters", None)
    (policy_copy / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(ModelFormatError):
        load_policy(policy_copy)


@pytest.mark.parametrize(("field", "value"), [("num_res_blocks", 10**9), ("base_channels", 2**31 - 1)])
def test_a_vision_tokenizer_without_end_is_not_built(field, value, tmp_path):
    from earl.vision.loading import load_vision_tokenizer

    shutil.copytree(FOLDER / "vision", tmp_path / "vision")
    config = json.loads((tmp_path / "vision" / "config.json").read_text())
    (tmp_path / "vision" / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(ModelFormatError, match=field):
        load_vision_tokenizer(tmp_path / "vision")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    ("part", "name"),
    [("policy", "model.layers.3.mlp.down_proj.weight"), ("vision", "quantize.embedding.weight")],
)
def test_one_weight_that_is_not_a_number_is_refused(part, name, wrong, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(FOLDER / part, tmp_path / part)
    weights = load_file(tmp_path / part / "model.safetensors")
    weights[name].view(-1)[-1] = wrong
    save_file(weights, tmp_path / part / "model.safetensors", metadata={"format": "pt"})
    load = load_policy if part == "policy" else load_vision_tokenizer
    with pytest.raises(ModelFormatError, match=f"{name} .* not numbers"):
        load(tmp_path / part)


def test_weights_of_which_no_likelihood_comes_give_no_image(model_folder, tmp_path):
    from PIL import Image
    from safetensors.torch import load_file, save_file

    from earl.pipeline.edit import EditPipeline

    shutil.copytree(model_folder, tmp_path / "model")
    path = tmp_path / "model" / "policy" / "model.safetensors"
    weights = load_file(path)
    weights["model.norm.weight"].fill_(3e38)
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ModelFormatError, match="likelihoods are not numbers"):
        EditPipeline.from_pretrained(tmp_path / "model")(Image.new("RGB", (64, 64), "red"), "make it blue")


@pytest.mark.parametrize("area", [10**6, 10**7, 10**8, 2**28])
def test_an_area_that_no_image_could_have_is_refused_before_the_image_is_scaled(area, model_folder, tmp_path):
    from PIL import Image

    from earl.pipeline.edit import EditPipeline

    shutil.copytree(model_folder, tmp_path / "model")
    meta = json.loads((model_folder / "earl.json").read_text()) | {"area": area}
    (tmp_path / "model" / "earl.json").write_text(json.dumps(meta))
    pipeline = EditPipeline.from_pretrained(tmp_path / "model")
    pipeline.vision.encode = pytest.fail
    with pytest.raises(InstructionError, match=r"need \d+ tokens or more, .* takes"):
        pipeline(Image.new("RGB", (64, 64), "red"), "make it blue")


@pytest.mark.parametrize(
    ("part", "change", "why"),
    [
        ("policy", {"model_type": "emu3", "text_config": 5}, "text_config is a JSON int"),
        ("policy", {"hidden_act": "nothing"}, "hidden_act|do not make a model"),
        ("policy", {"rope_parameters": {"rope_theta": 0.0}}, "rope rope_theta"),
        ("vision", {"model_type": "emu3", "vq_config": "x"}, "vq_config is a JSON str"),
    ],
)
def test_objects_and_names_that_are_none(part, change, why, tmp_path):
    shutil.copytree(FOLDER / part, tmp_path / part)
    path = tmp_path / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    load = load_policy if part == "policy" else load_vision_tokenizer
    with pytest.raises(ModelFormatError, match=why):
        load(tmp_path / part)
