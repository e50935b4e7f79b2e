"""A real vLLM server, asked through our client and through the OpenAI endpoint."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import torch

from earl.errors import EngineError
from earl.sampling.vllm import VllmServer
from earl.sequence.layout import parse_completion
from earl.sequence.tokenizer import TextTokenizer

from . import checks
from .models import make_policy, make_prompts, write_layouts


def server_answers(tokenizer: TextTokenizer, folder: Path) -> str:
    """Completions, likelihoods, refusals and new weights, over HTTP; options as in docs/vllm.md."""
    policy, other = make_policy(tokenizer, 6), make_policy(tokenizer, 7)
    path = write_layouts(policy, tokenizer, folder)["released"]
    port = free_port()
    log = (folder / "server.log").open("w")
    words = [
        *(
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            str(path),
            "--port",
            str(port),
            "--host",
            "127.0.0.1",
        ),
        *("--skip-tokenizer-init", "--enable-scale-out", "--logprobs-mode", "processed_logprobs"),
        *("--generation-config", "vllm", "--dtype", "float32", "--block-size", "32", "--enforce-eager"),
        *("--max-num-seqs", "16", "--kv-cache-memory-bytes", "100000000"),
    ]
    environment = os.environ | {"VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1"}
    # `vllm serve` itself asks for the version of a package "vllm", which the CPU build is not called.
    process = subprocess.Popen([sys.executable, *words], stdout=log, stderr=log, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(url, process, folder / "server.log")
        client = VllmServer(url, policy, tokenizer, weights=folder / "pushed", max_batch=16)
        requests = checks.requests_of(tokenizer)
        gap = checks.largest_gap(policy, requests, client.generate(requests, checks.ALL), tokenizer)
        with torch.no_grad():
            for mine, theirs in zip(policy.parameters(), other.parameters(), strict=True):
                mine.copy_(theirs)
        moved = checks.largest_gap(policy, requests, client.generate(requests, checks.ALL), tokenizer)
        assert max(gap, moved) <= checks.TOLERANCE[torch.float32], (gap, moved)
        prompt = list(make_prompts(tokenizer, 1)[0])
        body: dict[str, Any] = {
            "model": str(path),
            "prompt": prompt,
            "max_tokens": 60,
            "return_token_ids": True,
            "stop_token_ids": [tokenizer.vocabulary.eos],
            "vllm_xargs": {"earl_prefill": "size", "earl_grid": "3*2"},
        }
        answer = post(f"{url}/v1/completions", body)
        ids = answer["choices"][0]["token_ids"]
        parsed = parse_completion(ids, tokenizer)
        assert parsed.problem is None and parsed.codes is not None and parsed.codes.shape == (3, 2)
        try:
            post(f"{url}/v1/completions", body | {"vllm_xargs": {"earl_grid": "3by2"}})
        except urllib.error.HTTPError as error:
            assert error.code == 400 and "earl_grid" in error.read().decode()
        else:
            raise AssertionError("a wrong grid was taken")
    finally:
        process.terminate()
        process.wait(60)
        log.close()
    try:
        client.generate(requests)
    except EngineError as error:
        assert "no vLLM server" in str(error)
    else:
        raise AssertionError("a server that is gone was not noticed")
    return (
        f"gap {gap:.1e}, after new weights {moved:.1e}; /v1/completions with vllm_xargs keeps to the grid; "
        "a wrong one is answered with 400"
    )


def free_port() -> int:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen, log: Path, seconds: float = 900.0) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise RuntimeError(f"no answer in {seconds:.0f} s: {log.read_text()[-3000:]}")


def post(url: str, body: dict[str, Any]) -> Any:
    question = urllib.request.Request(
        url, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(question, timeout=120) as answer:
        return json.loads(answer.read())
