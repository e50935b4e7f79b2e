"""The policy of 8.5 billion parameters on a CPU: bfloat16, int8 and int4 weights, random, at full width.

    python -m benchmarks.big                       # 4 layers: all kinds beside each other, alternately
    python -m benchmarks.big --layers 32 --kinds int8 int4 --ids 1 4     # full size, kind after kind
    python -m benchmarks.big --quality 48          # KL of int8 and int4 on edits of the shipped model

Weights are written to `--folder` in the released layout, layer by layer, quantised as `earl convert
--quantize` does, and removed afterwards. At full size one layer is quantised and written 32 times (7 to
17 GB). A step feeds one sample its last id and n - 1 guesses behind a prompt of 128 ids, and makes the
logits of the visual columns. A process of its own measures each kind at full size: the median step, and the
memory that it held at most, anonymous and mapped. `--quality` scores the world's test edits under the
shipped model, plain and quantised (nats a visual token, teacher-forced), and counts the steps of sampling
with drafts of several lengths.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from earl.convert.probe import products, relative_difference
from earl.models.shapes import EMU3
from earl.pipeline import EditPipeline
from earl.policy.loading import load_policy
from earl.policy.quantised import QuantisedLinear, check_bits, quantise
from earl.policy.saving import save_quantised
from earl.policy.stored import open_policy
from earl.records import Grid
from earl.sampling import Request
from earl.sampling.native.decoder import Decoder
from earl.sampling.native.engine import NativeEngine
from earl.sampling.native.slots import Slots
from earl.sequence.layout import write_completion, write_prompt
from earl.world.benchmark import WorldBenchmark, draw_tasks
from earl.world.rendering import render

KINDS = ("bfloat16", "int8", "int4")
PROMPT, VISUAL = 128, 32_768  # ids of a prompt; columns of the head that a step needs
GB = 1e9


def write_weights(folder: Path, layers: int) -> None:
    """Normal random weights of the released width; values repeat, which changes no time and no size."""
    pool = torch.randn(2**24, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    offset = 0

    def drawn(*shape: int) -> torch.Tensor:
        nonlocal offset
        offset = (offset + 7_919_011) % len(pool)
        count = shape[0] * shape[1]
        return pool.roll(offset).repeat(-(-count // len(pool)))[:count].view(shape)

    ones = torch.ones(EMU3.hidden_size, dtype=torch.bfloat16)
    _save(folder, {"model.embed_tokens.weight": drawn(EMU3.vocab_size, EMU3.hidden_size)}, "embedding")
    for index in range(layers):
        above = f"model.layers.{index}"
        shard = {
            f"{above}.input_layernorm.weight": ones,
            f"{above}.post_attention_layernorm.weight": ones + 0,
        }
        for name, (inputs, outputs) in EMU3.projections.items():
            home = "self_attn" if name[0] in "qkvo" else "mlp"
            shard[f"{above}.{home}.{name}.weight"] = drawn(outputs, inputs)
        _save(folder, shard, f"layer{index:02}")
    _save(
        folder,
        {"lm_head.weight": drawn(EMU3.vocab_size, EMU3.hidden_size), "model.norm.weight": ones},
        "head",
    )
    files = sorted(folder.glob("*.safetensors"))
    homes = {name: file.name for file in files for name in json.loads(file.with_suffix(".names").read_text())}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": homes}))
    config = {
        "model_type": "Emu3",
        "vocab_size": EMU3.vocab_size,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_size": EMU3.hidden_size,
        "intermediate_size": EMU3.intermediate_size,
        "num_hidden_layers": layers,
        "num_attention_heads": EMU3.num_attention_heads,
        "num_key_value_heads": EMU3.num_key_value_heads,
        "max_position_embeddings": 9216,
        "rope_theta": 1_000_000.0,
    }
    (folder / "config.json").write_text(json.dumps(config))


def _save(folder: Path, shard: dict[str, torch.Tensor], name: str) -> None:
    save_file(shard, folder / f"{name}.safetensors")
    (folder / f"{name}.names").write_text(json.dumps(list(shard)))


def repeat_layer(folder: Path) -> None:
    """Make 32 layers of the first, each with bytes of its own on the disk."""
    index = folder / "model.safetensors.index.json"
    homes = json.loads(index.read_text())["weight_map"]
    layer = {name: homes[name] for name in homes if name.startswith("model.layers.0.")}
    tensors = {name: load_file(folder / home)[name] for name, home in layer.items()}
    for number in range(1, EMU3.num_hidden_layers):
        renamed = {name.replace(".0.", f".{number}.", 1): tensor for name, tensor in tensors.items()}
        save_file(renamed, folder / f"again{number:02}.safetensors")
        homes |= dict.fromkeys(renamed, f"again{number:02}.safetensors")
    index.write_text(json.dumps({"weight_map": homes}))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": EMU3.num_hidden_layers}))


def show_full(folder: Path, kind: str, options: argparse.Namespace) -> None:
    """Measure a folder in a process of its own, so that its memory is its own."""
    words = ["--measure", folder, "--repeats", options.repeats, "--threads", options.threads]
    command = [sys.executable, "-m", "benchmarks.big", *map(str, [*words, "--ids", *options.ids])]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = json.loads(answer.splitlines()[-1])
    steps = ", ".join(f"{n} {'id' if n == '1' else 'ids'} {s:.2f} s" for n, s in found["steps"].items())
    print(f"  a step of {steps}; a prompt of {PROMPT} ids, weights from the disk, {found['prefill']:.0f} s")
    held = ", ".join(f"{key} {found[key]:.1f} GB" for key in ("peak", "anonymous", "mapped"))
    print(f"  memory: {held}", flush=True)


class Steps:
    """One sample of a stored policy, fed n ids at a time."""

    def __init__(self, folder: Path) -> None:
        self.policy = open_policy(folder)
        self.decoder = Decoder(self.policy, torch.bfloat16)
        self.columns = self.decoder.weights.head[-VISUAL:]
        began = time.perf_counter()
        cache, _ = self.decoder.prefill([[7] * PROMPT])
        self.prefill = time.perf_counter() - began
        self.slots = Slots(self.decoder, cache, 1, 64)

    @torch.inference_mode()
    def seconds(self, ids: int) -> float:
        began = time.perf_counter()
        hidden, _ = self.slots.feed([[9] * ids], [8])
        (hidden.bfloat16() @ self.columns.T).float().argmax(-1)
        return time.perf_counter() - began


def memory() -> dict[str, float]:
    """GB of this process: held at most, and now, by what it is."""
    status = Path("/proc/self/status").read_text()
    names = {"peak": "VmHWM", "anonymous": "RssAnon", "mapped": "RssFile"}
    found = {key: re.search(rf"{name}:\s+(\d+) kB", status) for key, name in names.items()}
    return {key: int(match[1]) * 1024 / GB for key, match in found.items() if match}


def measure(folder: Path, widths: list[int], repeats: int) -> dict[str, object]:
    """The second pass over the weights is timed: in the first they come from the disk."""
    steps = Steps(folder)
    steps.seconds(1)
    medians = {n: statistics.median(steps.seconds(n) for _ in range(repeats)) for n in widths}
    return {"steps": medians, "prefill": steps.prefill, **memory()}


def alternate(folders: dict[str, Path], widths: list[int], repeats: int) -> None:
    """All kinds in one process, one step of each in turn; ratios are of medians."""
    kinds = {kind: Steps(folder) for kind, folder in folders.items()}
    for n in widths:
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(repeats + 1):
            for kind, steps in kinds.items():
                times[kind].append(steps.seconds(n))
        medians = {kind: statistics.median(values[1:]) for kind, values in times.items()}
        base = medians["bfloat16"]
        row = ", ".join(f"{kind} {1000 * s:.0f} ms ({s / base:.2f})" for kind, s in medians.items())
        print(f"  a step of {n:2} ids: {row}", flush=True)
    print("  a prompt of 128 ids:", ", ".join(f"{kind} {s.prefill:.1f} s" for kind, s in kinds.items()))
    plain = kinds["bfloat16"].policy
    for kind, steps in kinds.items():
        matrices = [(n, m) for n, m in steps.policy.named_modules() if isinstance(m, QuantisedLinear)]
        by_layer: dict[str, list[float]] = {}
        for name, layer in matrices:
            exact = plain.get_submodule(name)
            pair = (products(matrix, exact.in_features) for matrix in (exact, layer))
            by_layer.setdefault(name.split(".")[2], []).append(relative_difference(*pair))
        if by_layer:
            said = ", ".join(f"{sum(e) / len(e):.2%}" for e in by_layer.values())
            print(f"  {kind}: relative error of a matrix's product, mean by layer: {said}", flush=True)


def quality(edits: int) -> None:
    """KL of quantised weights on edits of the shipped model, and steps with drafts of several lengths."""
    pipeline = EditPipeline.from_pretrained("world", dtype="float32", device="cpu")
    tokenizer, side = pipeline.tokenizer, round(pipeline.vision.area**0.5)
    first = tokenizer.vocabulary.first_visual
    rows, requests = [], []
    for seed, task in enumerate(draw_tasks(WorldBenchmark(num=edits, seed=0))):
        scenes = [Image.fromarray(render(scene, side)) for scene in (task.source, task.target)]
        source, target = pipeline.vision.encode(scenes)
        prompt = write_prompt(source, task.instruction, tokenizer)
        rows.append((len(prompt), [*prompt, *write_completion(target, tokenizer)]))
        draft = tuple(source.ravel().tolist())
        requests.append(Request(tuple(prompt), (seed,), Grid(*map(int, source.shape)), draft=draft))

    @torch.no_grad()
    def scores(policy: torch.nn.Module) -> list[torch.Tensor]:
        found = []
        for start, ids in rows:
            logits = policy(input_ids=torch.tensor([ids])).logits[0, start - 1 : -1].float()
            visual = torch.tensor(ids[start:]) >= first
            found.append(logits[visual][:, first:].log_softmax(-1))
        return found

    plain = scores(load_policy("world", dtype="float32"))
    print(f"shipped model, {edits} edits of the world's test split, at temperature 1:")
    small = load_policy("world", dtype="float32").bfloat16()
    for kind in KINDS:
        policy = (
            small if kind == "bfloat16" else quantise(load_policy("world", dtype="float32"), check_bits(kind))
        )
        pairs = list(zip(plain, scores(policy), strict=True))
        kl = torch.cat([(a.exp() * (a - b)).sum(-1) for a, b in pairs])
        same = torch.cat([a.argmax(-1) == b.argmax(-1) for a, b in pairs]).double().mean()
        print(
            f"  {kind:9} KL {kl.mean():.4f} nats a visual token, same likeliest code {same:.2%}", flush=True
        )
    model = load_policy("world", dtype="float32")
    for width in (0, 4, 8, 16, 24):
        engine = NativeEngine(model, tokenizer, frozen=True, step_tokens=width)
        for request in requests:
            engine.generate([request])
        print(
            f"  steps of at most {width or 1:2} ids: {engine.steps / len(requests):.1f} an edit", flush=True
        )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=4, help="of 32")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--ids", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="fed in a step")
    parser.add_argument("--repeats", type=int, default=9, help="steps that are timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="for the weights (default: the temporary folder)")
    parser.add_argument("--quality", type=int, default=0, metavar="EDITS", help="KL on the shipped model")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # what the processes are told
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.quality:
        return quality(options.quality)
    if options.measure:
        return print(json.dumps(measure(options.measure, options.ids, options.repeats)))
    room = Path(tempfile.mkdtemp(prefix="earl-big-", dir=options.folder))
    full = options.layers == EMU3.num_hidden_layers
    try:
        plain = room / "bfloat16"
        plain.mkdir()
        began = time.perf_counter()
        write_weights(plain, 1 if full else options.layers)
        folders = {"bfloat16": plain}
        print(f"weights written in {time.perf_counter() - began:.0f} s", flush=True)
        for kind in sorted(options.kinds, key="bfloat16".__eq__):  # the others are made from it
            if kind != "bfloat16":
                began, folders[kind] = time.perf_counter(), room / kind
                save_quantised(load_policy(plain), folders[kind], check_bits(kind))
                print(f"{kind}: quantised in {time.perf_counter() - began:.0f} s", flush=True)
            if full:
                repeat_layer(folders[kind])
            size = sum(file.stat().st_size for file in folders[kind].iterdir()) / GB
            print(f"{kind}: {size:.2f} GB on disk", flush=True)
            if full:
                show_full(folders[kind], kind, options)
                shutil.rmtree(folders[kind])
        if not full:
            alternate(folders, options.ids, options.repeats)
    finally:
        shutil.rmtree(room, ignore_errors=True)


if __name__ == "__main__":
    main()
