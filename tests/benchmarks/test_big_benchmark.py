"""The benchmarks of the 8.5 B model on a CPU and of scaling, at the smallest size that runs all of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import big, judges, scaling
from earl.models.shapes import PolicyShape

SMALL = PolicyShape(
    hidden_size=128,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=192,
    vocab_size=320,
)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(big, "EMU3", SMALL)
    monkeypatch.setattr(big, "VISUAL", 64)


def test_kinds_are_measured_beside_each_other_and_nothing_is_left(small, tmp_path, capsys):
    big.main(["--layers", "2", "--ids", "1", "4", "--repeats", "1", "--folder", str(tmp_path)])
    said = capsys.readouterr().out
    assert said.count("a step of") == 2 and "bfloat16" in said and "(1.00)" in said
    for kind in ("int8", "int4"):
        errors = said.split(f"{kind}: relative error of a matrix's product, mean by layer: ")[1].split("\n")[
            0
        ]
        assert len(errors.split(", ")) == 2 and all(0 < float(e.rstrip("%")) < 12 for e in errors.split(", "))
    assert not any(tmp_path.iterdir())


def test_one_layer_is_repeated_and_measured(small, tmp_path):
    big.write_weights(tmp_path, 1)
    big.repeat_layer(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["num_hidden_layers"] == 3
    found = big.measure(tmp_path, [1, 2], 1)
    assert set(found["steps"]) == {1, 2} and found["peak"] > 0


def test_more_gpus_take_more_steps_a_day(capsys):
    scaling.main([])
    said = capsys.readouterr().out
    steps = [
        int(line.split("; ")[1].split(" steps")[0].replace(",", ""))
        for line in said.splitlines()
        if ";" in line
    ]
    assert len(steps) == 3 and steps == sorted(steps) and steps[0] > 100


def test_judges_have_the_published_parameters(monkeypatch, capsys):
    counts = {name: judges.parameters(judges.QWEN3[name]) / 1e9 for name in ("4B", "8B")}
    assert counts == pytest.approx({"4B": 4.44, "8B": 8.77}, abs=0.01)
    monkeypatch.setattr(judges, "JUDGES", judges.JUDGES[1:2])
    judges.main(["--concurrency", "1"])
    # 2 x 28 layers x 4 heads x 128 x 2 bytes for each of 1,536 ids
    assert "8.29 B parameters, cache 0.1 GB; with it bfloat16 16.7 GB" in capsys.readouterr().out
