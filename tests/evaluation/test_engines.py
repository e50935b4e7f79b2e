"""`earl evaluate --engine …`: vLLM in this process and on a server, both played by our engine."""

from __future__ import annotations

import json
import sys

import pytest
from vllm_stand_in import PlayedLLM, StandIn, play_vllm

from earl.cli import main
from earl.policy.loading import load_policy
from earl.sampling.native.engine import NativeEngine
from earl.sequence.tokenizer import TextTokenizer


@pytest.fixture
def words(model_folder):
    words = ["evaluate", "world", "--num", "2", "--seed", "1", "--model", str(model_folder)]
    return [*words, "--device", "cpu", "--top-k", "0", "--until", "edits", "-o"]


@pytest.fixture
def parts(model_folder):
    return load_policy(model_folder / "policy"), TextTokenizer.from_folder(model_folder)


def images(folder):
    return {path.name: path.read_bytes() for path in (folder / "edits").iterdir()}


def engine_of(folder):
    return json.loads((folder / "evaluation.json").read_text())["editor"].get("engine")


@pytest.mark.parametrize("name", ["vllm", "vllm-server"])
def test_another_engine_samples_and_is_named(name, words, parts, tmp_path, monkeypatch, capsys):
    policy, tokenizer = parts
    made = []

    class Played(PlayedLLM):
        def __init__(self, **settings):
            super().__init__(**settings)
            self.model = NativeEngine(policy, tokenizer)
            made.append(self)

    play_vllm(monkeypatch).LLM = Played
    server = StandIn(policy, tokenizer)
    try:
        more = ["--engine", name] + (["--server", server.url] if name == "vllm-server" else [])
        assert main([*words, str(tmp_path / "other"), *more]) == 0
        asked = len(server.completions)
    finally:
        server.close()
    assert (len(made), asked) == ((1, 0) if name == "vllm" else (0, 2)), "the engine that was named sampled"
    assert main([*words, str(tmp_path / "own")]) == 0
    assert images(tmp_path / "other") == images(tmp_path / "own") and len(images(tmp_path / "own")) == 2
    assert (engine_of(tmp_path / "other"), engine_of(tmp_path / "own")) == (name, None)

    capsys.readouterr()
    assert main([*words, str(tmp_path / "other")]) == 2, "a run does not go on with another engine"
    assert f"engine = {name!r}, now it is None" in capsys.readouterr().err


def test_without_vllm_and_without_a_server_there_is_one_sentence(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "vllm", None)
    for engine, server, said in (
        ("vllm", [], "earl-edit[vllm]"),
        ("vllm-server", ["http://127.0.0.1:9"], "no vLLM server at"),
        ("vllm-server", [], "a server is for --engine 'vllm-server'"),
    ):
        more = ["--engine", engine, *(["--server", *server] if server else [])]
        assert main([*words, str(tmp_path / f"{engine}{len(server)}"), *more]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error
        assert server or not (tmp_path / f"{engine}0").exists(), "a folder without edits binds no one"
