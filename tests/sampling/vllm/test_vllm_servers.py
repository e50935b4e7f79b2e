"""Several vLLM servers as one engine, against two that answer in vLLM's form."""

import pytest
import torch
from vllm_stand_in import StandIn

from earl.config import EngineSettings, SamplingSettings
from earl.config.grpo import Rollouts
from earl.errors import ConfigError, EngineError
from earl.policy.loading import create_policy, load_policy
from earl.records import Grid
from earl.sampling import Request, create_engine
from earl.sampling.native.engine import NativeEngine
from earl.sampling.vllm.servers import VllmServers

from .same import SIZE, assert_same

REQUESTS = [Request((1, 2, prompt), (3, 4, 5, 6), Grid(2, 2)) for prompt in range(5)]
RELOAD = "/collective_rpc"


@pytest.fixture
def policy(tokenizer):
    return create_policy(SIZE, tokenizer.vocabulary, seed=1)


@pytest.fixture
def two(policy, tokenizer):
    houses = [StandIn(policy, tokenizer), StandIn(policy, tokenizer)]
    yield houses
    for house in houses:
        house.close()


@pytest.fixture
def client(two, policy, tokenizer, tmp_path):
    urls = [house.url for house in two]
    return VllmServers(urls, policy, tokenizer, weights=tmp_path / "w", max_batch=4)


@pytest.fixture
def expected(policy, tokenizer):
    return NativeEngine(policy, tokenizer).generate(REQUESTS, SamplingSettings())


def test_both_take_part_and_completions_come_in_order(two, client, expected):
    assert_same(client.generate(REQUESTS), expected)
    assert sorted(client.shares) == sorted(house.url for house in two)
    assert sum(client.shares.values()) == 20 and min(client.shares.values()) > 0 and client.out == {}


def test_weights_reach_both_before_anything_is_asked(two, client, policy):
    client.generate(REQUESTS)
    for house in two:
        assert [path for path, *_ in house.seen[:2]] == [RELOAD, "/reset_prefix_cache"]
    assert torch.equal(load_policy(client.weights).lm_head.weight, policy.lm_head.weight)


def test_a_server_killed_in_mid_round_loses_its_share_to_the_other(two, client, expected):
    two[0].dies_at = 3
    assert_same(client.generate(REQUESTS), expected)
    assert list(client.out) == [two[0].url] and "no vLLM server at" in client.out[two[0].url]
    assert client.shares[two[1].url] >= 17 and sum(client.shares.values()) == 20
    assert_same(client.generate(REQUESTS), expected)  # the next round goes without it from the start
    assert list(client.out) == [two[0].url] and client.shares == {two[1].url: 20}


def test_one_that_did_not_take_the_weights_sits_this_round_out_only(two, client, expected):
    two[1].broken[RELOAD] = 500
    assert_same(client.generate(REQUESTS), expected)
    assert two[1].completions == [] and list(client.out) == [two[1].url]
    two[1].broken.clear()
    assert_same(client.generate(REQUESTS), expected)
    assert two[1].completions and client.out == {}


def test_a_slow_server_is_not_waited_for(two, client, expected):
    two[0].wait = 15.0
    assert_same(client.generate(REQUESTS), expected)
    assert client.shares == {two[0].url: 0, two[1].url: 20}


def test_without_any_server_there_is_one_sentence(two, client, policy, tokenizer):
    for house in two:
        house.dies_at = 1
    with pytest.raises(EngineError, match="every vLLM server failed in this round"):
        client.generate(REQUESTS)
    with pytest.raises(EngineError, match="none of 2 vLLM servers is there"):
        client.generate(REQUESTS)


def test_settings_name_one_server_or_several(two, policy, tokenizer, tmp_path):
    urls = tuple(house.url for house in two)
    engine = create_engine(EngineSettings(engine="vllm-server", servers=urls), policy, tokenizer)
    assert isinstance(engine, VllmServers) and engine.weights is None
    with pytest.raises(ConfigError, match="server or servers, not both"):
        EngineSettings(engine="vllm-server", servers=urls, server=urls[0])
    with pytest.raises(ConfigError, match="names one twice"):
        EngineSettings(engine="vllm-server", servers=(urls[0], urls[0]))
    with pytest.raises(ConfigError, match=r"rollouts\.servers"):
        Rollouts(engine="vllm-server", servers=urls)
