"""`earl merge`: weighted sums of policies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import earl
from earl.cli import main
from earl.convert.merge import merge_policies
from earl.errors import ConfigError, EarlError, ModelFormatError, OutputError
from earl.models.resolve import resolve_model
from earl.policy.loading import create_policy
from earl.policy.saving import save_policy
from earl.sequence.tokenizer import TextTokenizer
from earl.sequence.trained import train_text_tokenizer


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tiny models, a, b and c, of one tokenizer."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_text_tokenizer(["make it red", "make it night"], size=300, codebook_size=64)
    for seed, name in enumerate("abc"):
        _write(folder / name, tokenizer, seed)
    return folder


def _write(folder: Path, tokenizer: TextTokenizer, seed: int, size: str = "tiny") -> None:
    save_policy(create_policy(size, tokenizer.vocabulary, seed), folder / "policy")
    tokenizer.save(folder)
    meta = {"format": 1, "vocabulary": tokenizer.vocabulary.to_dict(), "licence": "MIT"}
    (folder / "earl.json").write_text(json.dumps(meta), encoding="utf-8")


def test_every_weight_is_the_sum(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [f"{models / 'a'}=0.5", f"{models / 'b'}=1.5", f"{models / 'c'}=-1"]
    assert main(["merge", str(tmp_path / "out"), *words]) == 0
    assert "0.5 x" in capsys.readouterr().out
    a, b, c, out = (
        earl.load_policy(folder).state_dict()
        for folder in (models / "a", models / "b", models / "c", tmp_path / "out")
    )
    assert out.keys() == a.keys()
    for name, value in out.items():
        torch.testing.assert_close(value, 0.5 * a[name] + 1.5 * b[name] - c[name], atol=1e-6, rtol=0)
    meta = json.loads((tmp_path / "out" / "earl.json").read_text())
    assert meta["parts"] == ["policy", "tokenizer"] and meta["licence"] == "MIT"
    assert meta["origin"]["merged"] == {"a (1)": 0.5, "b (2)": 1.5, "c (3)": -1.0}


@pytest.mark.parametrize(("folded", "left"), [((0.5, 0.5), 0.5), ((0.5, 1.0), None), ((1.0, 1.0), None)])
def test_a_temperature_that_all_have_folded_in_is_kept(
    folded: tuple[float, float], left: float | None, models: Path, tmp_path: Path
) -> None:
    for name, temperature in zip("ab", folded, strict=True):
        shutil.copytree(models / name, tmp_path / name)
        meta = json.loads((tmp_path / name / "earl.json").read_text()) | {"temperature": temperature}
        (tmp_path / name / "earl.json").write_text(json.dumps(meta))
    made = merge_policies([(str(tmp_path / name), 0.5) for name in "ab"], tmp_path / "out")
    assert made.get("temperature") == left


def test_a_model_with_itself_is_itself_and_edits(tmp_path: Path) -> None:
    merge_policies([("world", 2.0), ("world", -1.0)], tmp_path / "out")
    before, after = (earl.load_policy(name).state_dict() for name in ("world", tmp_path / "out"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before["lm_head.weight"].dtype == torch.bfloat16
    result = earl.EditPipeline.from_pretrained(tmp_path / "out")(_image(), "make it night", seed=0)
    again = earl.EditPipeline.from_pretrained("world")(_image(), "make it night", seed=0)
    assert result.image.tobytes() == again.image.tobytes()


def _image():  # type: ignore[no-untyped-def]
    from PIL import Image

    from earl.world.rendering import render
    from earl.world.tasks import sample_task

    return Image.fromarray(render(sample_task(0, "test", ["style"]).source, 64))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{m}/a=0.5", "{m}/b=0.4"], "add up to 0.5 \\+ 0.4 = 0.9; expected 1"),
        (["{m}/a=1"], "expected two or more"),
        (["{m}/a", "{m}/b=1"], "expected MODEL=WEIGHT"),
        (["{m}/a=half", "{m}/b=1"], "expected MODEL=WEIGHT"),
        (["{m}/a=nan", "{m}/b=1"], "expected 1"),
        (["{m}/a=0.5", "{m}/none=0.5"], "none"),
    ],
)
def test_what_cannot_be_summed_is_said(
    models: Path, tmp_path: Path, words: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["merge", str(tmp_path / "out"), *(word.format(m=models) for word in words)]) == 2
    error = capsys.readouterr().err
    with pytest.raises(EarlError, match=said):
        raise ConfigError(error)
    assert error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_policies_of_another_shape_or_tokenizer(models: Path, tmp_path: Path) -> None:
    same = TextTokenizer.from_folder(models / "a")
    _write(tmp_path / "small", same, 0, size="small")
    with pytest.raises(ModelFormatError, match="another shape"):
        merge_policies([(str(models / "a"), 0.5), (str(tmp_path / "small"), 0.5)], tmp_path / "out")
    other = train_text_tokenizer(["put it away", "a green cone"], size=300, codebook_size=64)
    _write(tmp_path / "other", other, 0)
    with pytest.raises(ModelFormatError, match="another text tokenizer"):
        merge_policies([(str(models / "a"), 0.5), (str(tmp_path / "other"), 0.5)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_there_stays(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [(str(models / "a"), 0.5), (str(models / "b"), 0.5)]
    merge_policies(parts, tmp_path / "out")
    assert resolve_model(tmp_path / "out", parts=("policy", "tokenizer")).vision_path is None
    with pytest.raises(ModelFormatError, match="2048 codes, the text tokenizer 64"):
        merge_policies(parts, tmp_path / "seeing", vision="world")
    with pytest.raises(EarlError, match="--force"):
        merge_policies(parts, tmp_path / "out")
    before = (tmp_path / "out" / "policy" / "model.safetensors").read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("earl.policy.saving.save_torch_state_dict", full)
    with pytest.raises(OutputError, match="No space left"):
        merge_policies(parts[::-1], tmp_path / "out", force=True)
    assert (tmp_path / "out" / "policy" / "model.safetensors").read_bytes() == before
