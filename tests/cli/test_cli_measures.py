"""`earl evaluate tokenizer` and `earl verifier calibrate`: tables, files, and what is refused."""

from __future__ import annotations

import json

from said import one_sentence

from earl.cli import main


def test_a_tokenizer_is_measured(model_folder, tmp_path, capsys):
    file = tmp_path / "tokenizer.json"
    words = ["evaluate", "tokenizer", "--model", str(model_folder), "--device", "cpu"]
    assert main([*words, "--num", "2", "--resolution", "32", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert report["n"] == 2 and set(report["styles"]) == {"day", "night"}
    assert f"perplexity {report['codebook']['perplexity']:.0f}" in said and "| all | 2 |" in said
    assert {"model", "seed", "split", "versions"} <= report.keys()
    assert main([*words, "--json", str(file)]) == 2
    assert "--force" in one_sentence(capsys)
    assert main([*words, "--resolution", "60"]) == 2
    assert "multiple of 8" in one_sentence(capsys)


def test_the_verifier_is_calibrated_through_a_tokenizer(model_folder, tmp_path, capsys):
    file = tmp_path / "calibration.json"
    words = ["verifier", "calibrate", "--num", "1", "--families", "color", "--device", "cpu"]
    assert main([*words, "--through", str(model_folder), "--json", str(file)]) == 0
    said = capsys.readouterr().out
    report = json.loads(file.read_text())
    everything = report["all"]
    assert (everything["tasks"], everything["targets"], everything["bad"]) == (1, 1.0, 1.0)
    assert "after: targets ≥ 9" in said and "ROC-AUC" in said
    assert everything["after_targets"] == 0.0, "an untrained tokenizer keeps nothing"
    assert any(miss["after"] and miss["kind"] == "target" for miss in report["misses"])
    assert main([*words, "--families", "explode"]) == 2
    assert "explode" in one_sentence(capsys)
    assert main([*words, "--through", str(tmp_path / "nothing")]) == 2
    assert "nothing" in one_sentence(capsys)
