"""Models by name from a cache without a connection: their parts, revisions, and what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from earl.cli import main
from earl.errors import ConfigError, EarlError, ModelFormatError, ModelNotFoundError
from earl.models.catalogue import BASES, KNOWN, RELEASED
from earl.models.resolve import resolve_model, split_revision
from hub_cache import EARL, copy_with_pickle, fake_hub, files_of, fill_cache, released_policy


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty cache, and no connection."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def picture(tmp_path) -> Path:
    Image.new("RGB", (64, 64), (200, 30, 60)).save(tmp_path / "red.png")
    return tmp_path / "red.png"


def test_a_released_name_finds_its_parts_in_their_own_homes(hub, model_folder):
    snapshot = fake_hub(hub, model_folder)
    found = resolve_model(EARL)
    assert found.policy_path == snapshot
    assert "BAAI--Emu3-Stage1" in str(found.tokenizer_path)
    assert "BAAI--Emu3-VisionTokenizer" in str(found.vision_path)


def test_it_edits_a_image_from_a_cache_that_the_environment_names(tmp_path, model_folder, picture):
    fake_hub(tmp_path / "home" / "hub", model_folder)
    command = [
        sys.executable,
        "-m",
        "earl",
        "edit",
        str(picture),
        "make it blue",
        "-o",
        str(tmp_path / "o.png"),
    ]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"}
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(variable, None)
    done = subprocess.run(
        [*command, "--model", EARL, "--area", "4096", "--device", "cpu", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == EARL
    assert Image.open(tmp_path / "o.png").size == (64, 64)


def test_a_part_alone_does_not_ask_for_the_weights(hub, model_folder):
    fill_cache(hub, "BAAI/Emu3-Stage1", files_of(model_folder, "tokenizer.json"))
    fill_cache(hub, "BAAI/Emu3-VisionTokenizer", files_of(model_folder / "vision"))
    found = resolve_model(EARL, parts=("tokenizer", "vision"))  # its own repository is not in the cache
    assert found.policy_path is None
    assert found.tokenizer_path is not None and found.vision_path is not None


@pytest.mark.parametrize("spelling", ["at", "argument", "default"])
def test_revisions(hub, model_folder, spelling):
    name, revision = "Image-editing/imged_rl_grpo_sft.s_rl.sc", "ckpt_001999"
    snapshot = fake_hub(hub, model_folder, name, revision)
    given = {"at": (f"{name}@{revision}", None), "argument": (name, revision), "default": (name, None)}
    assert resolve_model(*given[spelling]).policy_path == snapshot
    with pytest.raises(ModelNotFoundError, match="at revision other"):
        resolve_model(f"{name}@other")


def test_a_revision_of_a_model_that_is_here_is_refused(model_folder):
    for name in ("world", model_folder):
        with pytest.raises(ConfigError, match="revision 'v1' is of a hub id"):
            resolve_model(name, "v1")


def test_a_part_names_its_model(model_folder):
    with pytest.raises(ModelNotFoundError, match=f"no text tokenizer; it is a part of {model_folder}$"):
        resolve_model(model_folder / "policy").need("tokenizer")


def test_two_revisions_disagree(tmp_path):
    assert split_revision("a/b@v1", "v1") == ("a/b", "v1")
    with pytest.raises(ConfigError, match="leave one out"):
        split_revision("a/b@v1", "v2")
    folder = tmp_path / "own@home"
    folder.mkdir()
    assert split_revision(str(folder)) == (str(folder), None)


def test_given_parts_come_before_known_homes(hub, model_folder):
    fill_cache(hub, EARL, released_policy(model_folder))
    found = resolve_model(EARL, tokenizer=model_folder, vision=model_folder)
    assert found.tokenizer_path == model_folder and found.vision_path == model_folder / "vision"


def test_a_local_copy_in_emu3s_vocabulary_uses_emu3s_tokenizers(hub, tmp_path, model_folder):
    (tmp_path / "mine").mkdir()
    config = {"model_type": "Emu3", "vocab_size": 184_622}
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    lacking = resolve_model(tmp_path / "mine")
    with pytest.raises(ModelNotFoundError, match="BAAI/Emu3-Stage1"):
        lacking.need("tokenizer")
    fake_hub(hub, model_folder)
    found = resolve_model(tmp_path / "mine")
    assert "Emu3-Stage1" in str(found.tokenizer_path) and "Emu3-VisionTokenizer" in str(found.vision_path)


def test_offline_says_what_to_fetch(hub, picture, tmp_path, capsys):
    words = ["edit", str(picture), "x", "-o", str(tmp_path / "o.png"), "--model", EARL, "--device", "cpu"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"hf download {EARL}" in said and said.count("\n") == 1


def test_a_missing_tokenizer_home_is_the_one_that_is_named(hub, model_folder):
    fill_cache(hub, EARL, released_policy(model_folder))
    with pytest.raises(ModelNotFoundError, match="hf download BAAI/Emu3-Stage1"):
        resolve_model(EARL)


def test_a_missing_shard_is_named_with_its_command(hub, model_folder):
    from earl.policy.loading import load_policy

    files = released_policy(model_folder)
    del files["model.safetensors"]
    shard = "model-00002-of-00002.safetensors"
    files["model.safetensors.index.json"] = json.dumps({"weight_map": {"lm_head.weight": shard}}).encode()
    snapshot = fill_cache(hub, EARL, files)
    with pytest.raises(ModelNotFoundError) as caught:
        load_policy(EARL)
    assert f"`hf download {EARL} {shard} --revision {snapshot.name}`" in str(caught.value)


def test_only_the_weights_are_missing(hub, model_folder):
    from earl.policy.loading import load_policy

    fill_cache(hub, EARL, {"config.json": released_policy(model_folder)["config.json"]})
    with pytest.raises(ModelNotFoundError, match=f"hf download {EARL} model.safetensors"):
        load_policy(EARL)


@pytest.mark.parametrize("index", [False, True])
def test_pickles_are_refused_with_a_sentence(tmp_path, model_folder, index):
    from earl.policy.loading import load_policy
    from earl.vision.loading import load_vision_tokenizer

    folder = copy_with_pickle(model_folder / "policy", tmp_path / "p")
    if index:  # what the hub's filter leaves of a pickled model: its index
        (folder / "pytorch_model.bin").unlink()
        (folder / "pytorch_model.bin.index.json").write_text("{}")
    with pytest.raises(ModelFormatError, match="write safetensors"):
        load_policy(folder)
    with pytest.raises(ModelFormatError, match="write safetensors"):
        load_vision_tokenizer(copy_with_pickle(model_folder / "vision", tmp_path / "v"))


@pytest.mark.parametrize("first_published", [False, True])
def test_a_full_hf_folder_holds_both(tmp_path, model_folder, first_published):
    import torch
    from safetensors.torch import load_file, save_file

    from earl.policy.loading import load_policy
    from earl.vision.loading import load_vision_tokenizer

    text, eyes = (load_file(model_folder / part / "model.safetensors") for part in ("policy", "vision"))
    if first_published:
        named = {f"text_model.{name}": value for name, value in text.items()}
        named |= {f"vqmodel.{name}": value for name, value in eyes.items()}
    else:
        named = {name.replace("model.", "model.text_model.", 1): value for name, value in text.items()}
        named |= {f"model.vqmodel.{name}": value for name, value in eyes.items()}
    config = {
        "model_type": "emu3",
        "text_config": json.loads((model_folder / "policy" / "config.json").read_text()),
        "vq_config": json.loads((model_folder / "vision" / "config.json").read_text()),
    }
    folder = tmp_path / "whole"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    assert resolve_model(folder).vision_path == resolve_model(folder).policy_path == folder
    with torch.no_grad():
        ours, theirs = (load_policy(each)(torch.arange(12)[None]).logits for each in (model_folder, folder))
    assert torch.equal(ours, theirs)
    image = Image.effect_noise((64, 64), 90).convert("RGB")
    codes = [load_vision_tokenizer(each).encode([image], resize=False)[0] for each in (model_folder, folder)]
    assert (codes[0] == codes[1]).all()


def test_the_list_of_models(capsys):
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {"world", *KNOWN} and len(RELEASED) == 6 and len(BASES) == 3
    best = rows[EARL]
    assert best["parameters"] == 8_492_011_520
    assert best["scores"]["mean"] == 4.80
    assert (best["tokenizer"], best["vision"]) == ("BAAI/Emu3-Stage1", "BAAI/Emu3-VisionTokenizer")
    assert best["memory_gib_computed"]["bfloat16"] > best["memory_gib_computed"]["int8"] > 8
    assert rows["Image-editing/imged_rl_grpo_sft.s_rl.sc"]["revision"] == "ckpt_001999"
    for row in RELEASED:  # the published mean is the mean of the six, to rounding
        scores = [value for name, value in row.scores.items() if name != "mean"]
        assert not scores or abs(sum(scores) / 6 - row.scores["mean"]) < 0.011
    assert main(["models"]) == 0
    assert all(name in capsys.readouterr().out for name in [EARL])


def test_the_shipped_models_count_is_its_own(capsys):
    from earl.policy.loading import load_policy

    main(["models", "--json"])
    (row,) = [row for row in json.loads(capsys.readouterr().out) if row["name"] == "world"]
    assert row["parameters"] == sum(p.numel() for p in load_policy("world").parameters())


def test_nothing_here_is_an_error_of_ours(hub):
    for name in ("BAAI/Emu3-VisionTokenizer", "someone/else@v2", EARL):
        with pytest.raises(EarlError):
            resolve_model(name)
