"""vLLM played by the native engine: an HTTP server that answers in its form, and its Python interface."""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType, SimpleNamespace

from earl.config import SamplingSettings
from earl.policy.loading import load_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.engine import NativeEngine


class StandIn(ThreadingHTTPServer):
    """A server of this process.

    Attributes:
        seen: (path, body, Authorization) of each question.
        broken: HTTP status by path, given in place of an answer.
        forgets: whether the prefix cache is reset; whole: whether answers have a completion.
        dies_at: number of the completion in the midst of which it dies: no answer, no server any more.
        wait: seconds before each completion is answered.
    """

    def __init__(self, policy, tokenizer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.policy, self.tokenizer = policy, tokenizer
        self.seen, self.broken, self.forgets, self.whole = [], {}, True, True
        self.dies_at, self.wait, self.lock = None, 0.0, threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    @property
    def completions(self):
        return [body for path, body, _ in self.seen if path == "/inference/v1/generate"]

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self):
        self.answer(None)

    def do_POST(self):
        house = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"null")
        house.seen.append((self.path, body, self.headers.get("Authorization")))
        if self.path in house.broken:
            return self.answer({"error": "no"}, house.broken[self.path])
        if self.path == "/reset_prefix_cache":
            return self.answer({"success": house.forgets})
        if self.path == "/collective_rpc":
            with house.lock:
                house.policy = load_policy(body["kwargs"]["weights_path"])
        if self.path != "/inference/v1/generate":
            return self.answer({"results": [None]})
        if house.dies_at is not None and len(house.completions) >= house.dies_at:
            house.close()
            self.connection.close()
            return None
        given = body["sampling_params"]
        height, width = map(int, given["extra_args"]["earl_grid"].split("*"))
        request = Request(tuple(body["token_ids"]), (given["seed"],), Grid(height, width))
        time.sleep(house.wait)
        with house.lock:
            engine = NativeEngine(house.policy, house.tokenizer)
            ((done,),) = engine.generate([request], SamplingSettings())
        content = [{"logprob": value} for value in done.logprobs]
        choice = {"token_ids": list(done.ids), "logprobs": {"content": content}}
        self.answer({"choices": [choice] if house.whole else []})

    def answer(self, content, status=200):
        text = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class PlayedLLM:
    """Takes requests and weights as vLLM does, and samples with our engine."""

    forgets = True

    def __init__(self, **settings):
        self.settings, self.calls, self.waiting, self.aborted = settings, [], {}, []
        self.llm_engine = self
        self.model = None

    def collective_rpc(self, method, kwargs):
        self.calls.append(method)
        self.weights = {name: tensor.clone() for name, tensor in kwargs["weights_iterator"]}

    def reset_prefix_cache(self):
        self.calls.append("reset")
        return self.forgets

    def sleep(self, level):
        self.calls.append(f"sleep {level}")

    def wake_up(self):
        self.calls.append("wake")

    def add_request(self, name, prompt, params):
        self.waiting[name] = (tuple(prompt["prompt_token_ids"]), params)

    def abort_request(self, names):
        self.aborted += names

    def step(self):
        name, (prompt, params) = self.waiting.popitem()
        height, width = map(int, params.extra_args["earl_grid"].split("*"))
        request = Request(prompt, (params.seed,), Grid(height, width))
        sampling = SamplingSettings(temperature=params.temperature, top_k=params.top_k, top_p=params.top_p)
        ((done,),) = self.model.generate([request], sampling)
        table = [{i: SimpleNamespace(logprob=p)} for i, p in zip(done.ids, done.logprobs, strict=True)]
        piece = SimpleNamespace(token_ids=list(done.ids), logprobs=table)
        return [SimpleNamespace(request_id=name, outputs=[piece], finished=True)]


def play_vllm(monkeypatch):
    """A module `vllm` whose LLM is `PlayedLLM`."""
    vllm = ModuleType("vllm")
    vllm.LLM = PlayedLLM
    vllm.SamplingParams = lambda **given: SimpleNamespace(**given)
    kinds = ModuleType("vllm.sampling_params")
    kinds.RequestOutputKind = SimpleNamespace(DELTA="delta", FINAL_ONLY="final")
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", kinds)
    monkeypatch.setattr("earl.sampling.vllm.plugin.register", lambda: None)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    return vllm
