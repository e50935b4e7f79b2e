"""The engine around vLLM, with vLLM played by our own engine; and what happens where vLLM is missing."""

import subprocess
import sys

import pytest
import torch
from vllm_stand_in import play_vllm

from earl.config import SamplingSettings
from earl.config.grpo import Grpo, Rollouts, importance_cap
from earl.errors import ConfigError, EngineError, MissingExtraError
from earl.policy.adapters import add_lora
from earl.policy.loading import create_policy, load_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.engine import NativeEngine
from earl.sampling.vllm import VllmEngine
from earl.sampling.vllm import engine as module
from earl.sampling.vllm.weights import current_weights, write_checkpoint

from .same import SIZE, assert_same


@pytest.fixture
def policy(tokenizer):
    return create_policy({**SIZE, "tie_word_embeddings": True}, tokenizer.vocabulary, seed=1)


@pytest.fixture
def played(monkeypatch):
    return play_vllm(monkeypatch)


def make(policy, tokenizer, **options):
    engine = VllmEngine(policy, tokenizer, max_batch=4, **options)
    engine.llm.model = NativeEngine(policy, tokenizer)
    return engine


def test_completions_come_back_in_order_and_weights_go_first(policy, tokenizer, played):
    engine, ended = make(policy, tokenizer), []
    requests = [Request((1, 2), (3, 4), Grid(2, 2)), Request((5,), (6,), Grid(1, 3))]
    found = engine.generate(requests, SamplingSettings(), on_completion=lambda index, _: ended.append(index))
    assert_same(found, NativeEngine(policy, tokenizer).generate(requests, SamplingSettings()))
    assert sorted(ended) == [0, 1, 2]
    assert engine.llm.calls == ["reload_weights", "reset"]
    assert torch.equal(engine.llm.weights["lm_head.weight"], policy.lm_head.weight), "tied, yet sent"
    assert torch.equal(engine.llm.weights["model.embed_tokens.weight"], policy.model.embed_tokens.weight)
    assert engine.llm.settings["logprobs_mode"] == "processed_logprobs"
    assert engine.llm.settings["load_format"] == "dummy"


def test_guidance_is_refused_before_anything_is_asked(policy, tokenizer, played):
    engine = make(policy, tokenizer)
    with pytest.raises(ConfigError, match=r"vLLM samples without guidance, got 1.5"):
        engine.generate(
            [Request((1,), (0,), Grid(1, 1), negative_prompt=(2,))], SamplingSettings(guidance=1.5)
        )
    assert engine.llm.calls == [] and engine.llm.waiting == {}


def test_a_cache_that_is_kept_is_an_error(policy, tokenizer, played):
    engine = make(policy, tokenizer)
    engine.llm.forgets = False
    with pytest.raises(EngineError, match="prefix cache"):
        engine.generate([Request((1,), (0,), Grid(1, 1))])


def test_with_sleep_the_memory_is_given_back_even_after_an_error(policy, tokenizer, played):
    engine = make(policy, tokenizer, sleep=True)
    engine.generate([Request((1,), (0,), Grid(1, 1))])
    assert engine.llm.calls == ["sleep 2", "wake", "reload_weights", "reset", "sleep 2"]
    engine.llm.model = None
    with pytest.raises(AttributeError):
        engine.generate([Request((1,), (0, 1), Grid(1, 1))])
    assert engine.llm.calls[-1] == "sleep 2"
    assert engine.llm.aborted, "what was still asked for is taken back"


def test_a_folder_is_served_as_it_lies_in_its_own_dtype(policy, tokenizer, played, tmp_path):
    write_checkpoint(policy.to(torch.bfloat16), tmp_path / "policy")
    engine = VllmEngine(tmp_path / "policy", tokenizer)
    assert engine.llm.settings["model"] == str(tmp_path / "policy")
    assert engine.llm.settings["dtype"] == "bfloat16"
    assert "load_format" not in engine.llm.settings
    assert engine.max_positions == policy.config.max_position_embeddings
    engine.refresh()
    assert engine.llm.calls == []


def test_what_vllm_says_at_its_start_is_one_sentence(policy, tokenizer, played, monkeypatch):
    def fail(**settings):
        raise ValueError("no memory left")

    monkeypatch.setattr(played, "LLM", fail)
    with pytest.raises(EngineError, match="could not start with this policy: no memory left"):
        VllmEngine(policy, tokenizer)


def test_without_vllm_the_extra_is_named(policy, tokenizer, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    with pytest.raises(MissingExtraError, match=r"pip install 'earl-edit\[vllm\]'"):
        VllmEngine(policy, tokenizer)


def test_importing_the_room_does_not_import_vllm():
    code = "import sys, earl, earl.sampling.vllm; assert 'vllm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_adapter_is_merged_into_what_is_sent_and_written(tokenizer, tmp_path):
    policy = add_lora(create_policy(SIZE, tokenizer.vocabulary, seed=2), 2, alpha=8)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    sent = dict(current_weights(policy))
    plain = create_policy(SIZE, tokenizer.vocabulary, seed=2)
    assert set(sent) == set(plain.state_dict())
    write_checkpoint(policy, tmp_path / "merged")
    ids = torch.tensor([[1, 2, 3]])
    with torch.no_grad():
        wanted = policy(input_ids=ids).logits
        found = load_policy(tmp_path / "merged")(input_ids=ids).logits
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_tied_head_is_written_as_one_of_its_own(policy, tmp_path):
    write_checkpoint(policy, tmp_path / "written")
    found = load_policy(tmp_path / "written")
    assert policy.config.tie_word_embeddings
    assert not found.config.tie_word_embeddings
    assert torch.equal(found.lm_head.weight, policy.model.embed_tokens.weight)


def test_servable_knows_what_vllm_reads_as_it_lies(policy, tmp_path):
    write_checkpoint(policy, tmp_path / "plain")
    assert module.servable(tmp_path / "plain") == tmp_path / "plain"


def test_another_engine_gets_a_cap_for_its_importance_weights():
    assert importance_cap(Grpo(), Rollouts()) is None
    assert importance_cap(Grpo(), Rollouts(engine="vllm")) == 2.0
    assert importance_cap(Grpo(importance_cap=5.0), Rollouts(engine="vllm")) == 5.0
    assert importance_cap(Grpo(mirror_release=True), Rollouts(engine="vllm")) is None


@pytest.mark.parametrize(
    "given", [{"engine": "vllm-server"}, {"server": "http://x"}, {"server_weights": "w"}]
)
def test_a_server_needs_its_address_and_its_folder(given):
    with pytest.raises(ValueError, match="disagree"):
        Rollouts(**given)
