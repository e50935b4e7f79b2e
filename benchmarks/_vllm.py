"""vLLM's side of `generation.py`: the same weights and requests, read from a folder.

vLLM pins libraries of its own, so it seldom lies in the environment that the benchmarks run in. This half
runs in a process of its own, with the Python that has vLLM: this one, or that of the environment which
`make test-vllm` builds (.venv-vllm, or the folder that VENV_VLLM names).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from earl.config import SamplingSettings
from earl.errors import EngineError
from earl.policy.saving import save_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sequence.tokenizer import TextTokenizer

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """What vLLM wrote, and how long it took.

    Attributes:
        seconds: of the best run: CPU seconds of the process, or wall seconds on a GPU.
        ids: completions, group after group.
        versions: of vLLM, torch, transformers.
        on_gpu: whether vLLM computed on a GPU.
    """

    seconds: float
    ids: list[tuple[int, ...]]
    versions: str
    on_gpu: bool


def find_python() -> str | None:
    """The Python that has vLLM, or None."""
    if find_spec("vllm") is not None:
        return sys.executable
    python = ROOT / os.environ.get("VENV_VLLM", ".venv-vllm") / "bin" / "python"
    if not python.is_file():
        return None
    found = subprocess.run(
        [python, "-c", "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"]
    )
    return str(python) if found.returncode == 0 else None


def measure(
    python: str,
    model: Any,
    tokenizer: TextTokenizer,
    requests: Sequence[Request],
    *,
    repeats: int,
    threads: int,
) -> Outcome:
    """Let vLLM complete the requests, greedy, in a process of its own.

    Raises:
        EngineError: it failed; the message ends with its output.
    """
    with tempfile.TemporaryDirectory(prefix="earl-bench-") as name:
        folder = Path(name)
        write_case(folder, model, tokenizer, requests, repeats)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "TORCHDYNAMO_DISABLE": "1"}
        paths = [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        command = [python, "-m", "benchmarks._vllm", str(folder)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
            raise EngineError(f"vLLM's half of the benchmark failed ({python}): {said[-1]}")
        found = json.loads((folder / "outcome.json").read_text())
    return Outcome(**{**found, "ids": [tuple(ids) for ids in found["ids"]]})


def write_case(
    folder: Path, model: Any, tokenizer: TextTokenizer, requests: Sequence[Request], repeats: int
) -> None:
    save_policy(model, folder / "policy")
    tokenizer.save(folder)
    table = {"requests": [asdict(request) for request in requests], "repeats": repeats}
    (folder / "case.json").write_text(json.dumps(table))


def read_case(folder: Path) -> tuple[TextTokenizer, list[Request], int]:
    table = json.loads((folder / "case.json").read_text())
    requests = [
        Request(
            **{
                **each,
                "prompt": tuple(each["prompt"]),
                "seeds": tuple(each["seeds"]),
                "grid": Grid(**each["grid"]) if each["grid"] else None,
            }
        )
        for each in table["requests"]
    ]
    return TextTokenizer.from_folder(folder), requests, table["repeats"]


def run_case(engine: Any, requests: Sequence[Request], repeats: int, *, on_gpu: bool) -> dict[str, Any]:
    """The best time of some runs after one that is not counted, and what came out."""
    clock = time.perf_counter if on_gpu else time.process_time
    best, ids = float("inf"), []
    for turn in range(repeats + 1):
        engine.llm.reset_prefix_cache()  # each run computes its prompts, as our engine does
        began = clock()
        groups = engine.generate(requests, SamplingSettings(greedy=True))
        if turn:
            best = min(best, clock() - began)
        ids = [completion.ids for group in groups for completion in group]
    return {"seconds": best, "ids": ids}


def main(folder: Path) -> None:
    """Run the case of a folder and leave `outcome.json` in it."""
    import torch

    from earl.sampling.vllm.engine import VllmEngine, import_vllm

    version = import_vllm().__version__
    import transformers

    tokenizer, requests, repeats = read_case(folder)
    count = sum(len(request.seeds) for request in requests)
    engine = VllmEngine(folder / "policy", tokenizer, max_batch=count)
    on_gpu = torch.cuda.is_available()
    found = run_case(engine, requests, repeats, on_gpu=on_gpu)
    versions = f"vLLM {version}, torch {torch.__version__}, transformers {transformers.__version__}"
    (folder / "outcome.json").write_text(json.dumps({**found, "versions": versions, "on_gpu": on_gpu}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
