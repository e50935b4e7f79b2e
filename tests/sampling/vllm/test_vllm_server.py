"""The client of a vLLM server, against an HTTP server that answers in vLLM's form."""

import pytest
import torch
from vllm_stand_in import StandIn

from earl.config import SamplingSettings
from earl.errors import ConfigError, EngineError
from earl.policy.loading import create_policy, load_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.engine import NativeEngine
from earl.sampling.vllm import VllmServer

from .same import SIZE, assert_same


@pytest.fixture
def policy(tokenizer):
    return create_policy(SIZE, tokenizer.vocabulary, seed=1)


@pytest.fixture
def server(policy, tokenizer):
    house = StandIn(policy, tokenizer)
    yield house
    house.close()


REQUESTS = [Request((1, 2), (3, 4), Grid(2, 2)), Request((5,), (6,), Grid(1, 3))]


def test_completions_are_those_of_the_server_in_order(server, policy, tokenizer):
    rows = []
    client = VllmServer(server.url + "/v1/", policy, tokenizer)
    found = client.generate(
        REQUESTS, SamplingSettings(), on_row=lambda sample, row, _: rows.append((sample, row))
    )
    assert_same(found, NativeEngine(policy, tokenizer).generate(REQUESTS, SamplingSettings()))
    assert sorted(rows) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]
    assert {path for path, *_ in server.seen} == {"/inference/v1/generate"}


def test_weights_go_through_the_folder_before_anything_is_asked(server, policy, tokenizer, tmp_path):
    client = VllmServer(server.url, policy, tokenizer, weights=tmp_path / "pushed")
    client.generate(REQUESTS)
    assert [path for path, *_ in server.seen[:2]] == ["/collective_rpc", "/reset_prefix_cache"]
    kwargs = server.seen[0][1]["kwargs"]
    assert kwargs == {"weights_path": str(tmp_path / "pushed")}
    saved = load_policy(kwargs["weights_path"])
    assert torch.equal(saved.lm_head.weight, policy.lm_head.weight)


def test_guidance_is_refused_before_anything_is_asked(server, policy, tokenizer):
    with pytest.raises(ConfigError, match="vLLM samples without guidance"):
        VllmServer(server.url, policy, tokenizer).generate(REQUESTS, SamplingSettings(guidance=2.0))
    assert "/inference/v1/generate" not in {path for path, *_ in server.seen}


@pytest.mark.parametrize(
    ("path", "said"),
    [("/inference/v1/generate", "--enable-scale-out"), ("/collective_rpc", "VLLM_SERVER_DEV_MODE=1")],
)
def test_a_refusal_says_how_the_server_must_be_started(server, policy, tokenizer, tmp_path, path, said):
    server.broken[path] = 404
    with pytest.raises(EngineError, match=said):
        VllmServer(server.url, policy, tokenizer, weights=tmp_path / "w").generate(REQUESTS)


def test_other_troubles_have_a_sentence_each(server, policy, tokenizer, tmp_path):
    client = VllmServer(server.url, policy, tokenizer, weights=tmp_path / "w")
    server.whole = False
    with pytest.raises(EngineError, match="another form"):
        client.generate(REQUESTS)
    server.forgets = False
    with pytest.raises(EngineError, match="prefix cache"):
        client.generate(REQUESTS)
    with pytest.raises(EngineError, match="no vLLM server at"):
        VllmServer("http://127.0.0.1:9", policy, tokenizer)
    with pytest.raises(EngineError, match="no vLLM server at"):
        VllmServer("nowhere", policy, tokenizer)
