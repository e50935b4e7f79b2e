"""The sampling benchmark prints a row for each engine, and holds their completions against each other."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import _vllm, generation
from earl.config import SamplingSettings
from earl.errors import EngineError
from earl.policy.loading import create_policy, load_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.engine import NativeEngine
from earl.sequence.layout import write_prompt
from earl.sequence.trained import train_text_tokenizer

GREEDY = SamplingSettings(greedy=True)
SMALL = ["--prompts", "2", "--group", "2", "--side", "2", "--repeats", "1", "--edits", "0"]


@pytest.fixture
def case(tmp_path):
    """A folder as vLLM's half gets it, and what it was made of."""
    tokenizer = train_text_tokenizer(generation.TEXTS, size=300, codebook_size=64)
    policy = create_policy("tiny", tokenizer.vocabulary, seed=0)
    prompts = generation.make_prompts(2, Grid(2, 2), tokenizer)
    requests = [Request(prompt, (0, 1), Grid(2, 2)) for prompt in prompts]
    _vllm.write_case(tmp_path, policy, tokenizer, requests, 1)
    return SimpleNamespace(folder=tmp_path, policy=policy, tokenizer=tokenizer, requests=requests)


def test_what_vllm_reads_is_what_ours_had(case):
    tokenizer, requests, repeats = _vllm.read_case(case.folder)
    assert (requests, repeats) == (case.requests, 1)
    assert tokenizer.vocabulary == case.tokenizer.vocabulary
    text = generation.TEXTS[0]
    codes = torch.arange(4).view(2, 2).numpy()
    assert write_prompt(codes, text, tokenizer) == write_prompt(codes, text, case.tokenizer)
    loaded = load_policy(case.folder / "policy").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in case.policy.state_dict().items())


def test_a_run_forgets_the_prompts_of_the_one_before(case):
    engine, forgot = NativeEngine(case.policy, case.tokenizer), []
    wanted = [c.ids for group in engine.generate(case.requests, GREEDY) for c in group]
    engine.llm = SimpleNamespace(reset_prefix_cache=lambda: forgot.append(1))
    found = _vllm.run_case(engine, case.requests, 2, on_gpu=False)
    assert found["ids"] == wanted and 0 < found["seconds"] < float("inf")
    assert len(forgot) == 3, "one run to warm up, two that count"


@pytest.mark.parametrize("native", [True, False])
def test_rows_and_a_line_where_vllm_or_bfloat16_is_missing(native: bool, monkeypatch, capsys):
    monkeypatch.setattr(_vllm, "find_python", lambda: None)
    monkeypatch.setattr(generation, "native_bf16", lambda device: native)
    assert generation.main(SMALL) > 0
    said = capsys.readouterr().out
    assert "vLLM is not measured: it is not installed here, nor in .venv-vllm" in said
    assert said.count("transformers.generate") == said.count("earl.sampling") == 1 + native
    assert ("bfloat16 is not measured: this CPU only emulates it" in said) != native
    assert "equal completions 4 of 4" in said


def test_edits_one_by_one_write_what_transformers_writes(monkeypatch, capsys):
    monkeypatch.setattr(_vllm, "find_python", lambda: None)
    monkeypatch.setattr(generation, "native_bf16", lambda device: False)
    assert generation.main([*SMALL, "--edits", "2"]) > 0
    said = capsys.readouterr().out
    assert "2 edits by the shipped model, one at a time, 80 ids each" in said
    assert said.count("equal completions 2 of 2") == 2
    assert "an edit without, 63.0 steps" in said, "each code but the first takes a step"


def test_a_row_for_vllm_and_a_stop_where_it_wrote_something_else(monkeypatch, capsys):
    monkeypatch.setattr(_vllm, "find_python", lambda: "python-with-vllm")
    monkeypatch.setattr(generation, "native_bf16", lambda device: True)

    def measure(python, model, tokenizer, requests, *, repeats, threads):
        assert python == "python-with-vllm" and (repeats, threads) == (1, 1)
        completions = NativeEngine(model, tokenizer).generate(requests, GREEDY)
        ids = [completion.ids for group in completions for completion in group]
        return _vllm.Outcome(2.0, [*ids[:-1], ids[-1][:-1]] if wrong else ids, "vLLM 0", False)

    monkeypatch.setattr(_vllm, "measure", measure)
    wrong = False
    generation.main(SMALL)
    said = capsys.readouterr().out
    assert said.count("  vLLM ") == 2 and "(vLLM 0)" in said
    wrong = True
    with pytest.raises(AssertionError, match="vLLM: only 3 of 4 are equal"):
        generation.main(SMALL)


def test_the_environment_of_make_test_vllm_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(_vllm, "find_spec", lambda name: None)
    monkeypatch.setenv("VENV_VLLM", str(tmp_path))
    assert _vllm.find_python() is None
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    for code, found in ((1, None), (0, str(python))):
        python.write_text(f"#!/bin/sh\nexit {code}\n")
        python.chmod(0o755)
        assert _vllm.find_python() == found


def test_a_vllm_that_fails_is_said(case, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'first' >&2; echo 'no such CPU' >&2; exit 3\n")
    python.chmod(0o755)
    with pytest.raises(EngineError, match=r"failed .*: no such CPU"):
        _vllm.measure(str(python), case.policy, case.tokenizer, case.requests, repeats=1, threads=1)
    assert json.loads((case.folder / "case.json").read_text())["repeats"] == 1
