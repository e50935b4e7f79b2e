"""One group's update: ours beside the release's formula and TRL's, on the same weights and rollouts.

    python benchmarks/grpo.py [--group 3] [--hidden 128] [--layers 1] [--side 32] [--vocabulary released]

Forward and backward of the GRPO loss of one prompt with `--group` rollouts, reference
log-probabilities given. Each way runs in a process of its own, so that its peak memory is its own:

    release   full sequences, logits of every position over the whole vocabulary, columns masked,
              log-softmax, one rollout at a time
    trl       full sequences, logits of the completion only (`logits_to_keep`), the chosen logit minus
              logsumexp over all columns, one rollout at a time: GRPOTrainer before its fused head.
              With the trl package installed its `selective_log_softmax` is called, else our rewrite
    trl-fused full sequences, `ChunkedLogProbFunction` of trl 1.16 on the completion's hidden states,
              over all columns, one rollout at a time: GRPOTrainer now. Left out without the package
    ours      the prompt once, the columns that are due, in chunks that are made again; also gives
              the entropy, which the others do not

TRL's softmax is over all columns, so its loss is another one and is not compared; the release's is
asserted equal to ours to 1e-4. Time is CPU seconds of the process (wall seconds on a GPU), of the
best of `--repeats` updates; memory is the peak above what was held before the first.

Vocabulary and lengths are the release's at 256 px, width and depth are not: with one narrow layer
the head is nearly all of the work. In the 8.5 B model it is about a tenth, so time ratios there lie
nearer to what sharing the prompt gives; the memory of the logits is the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

WAYS = ("release", "trl", "trl-fused", "ours")
FUSED_CHUNK = 32768  # columns of a tile, as trl 1.16 has it


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Print times, peaks and ratios; returns time and memory ratios by name."""
    options = _options(arguments)
    if options.way:
        print(json.dumps(measure(options)))
        return {}
    given = sys.argv[1:] if arguments is None else arguments
    found = {}
    package = _trl()
    print(f"  {options.group} rollouts, {options.layers} x {options.hidden}; trl: {package or 'our rewrite'}")
    for way in WAYS:
        if way == "trl-fused" and not package:
            continue
        command = [sys.executable, __file__, "--way", way, *given]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found[way] = json.loads(output.splitlines()[-1])
        each = found[way]
        memory, loss = each["peak"] / 2**20, each["loss"]
        print(f"  {way:9} {each['seconds']:8.2f} s  peak {memory:8.0f} MiB  loss {loss:.6f}")
    if abs(found["release"]["loss"] - found["ours"]["loss"]) > 1e-4:
        raise SystemExit("the losses of the release's formula and ours differ")
    ratios = {}
    for way in [way for way in found if way != "ours"]:
        ratios[f"{way}_time"] = found[way]["seconds"] / found["ours"]["seconds"]
        ratios[f"{way}_memory"] = found[way]["peak"] / found["ours"]["peak"]
        print(f"  {way} / ours: time {ratios[f'{way}_time']:.1f}x, memory {ratios[f'{way}_memory']:.1f}x")
    return ratios


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Seconds, peak bytes and loss of one way."""
    import torch

    from earl.config.grpo import LossSettings
    from earl.config.sections import Precision
    from earl.training.grpo.logprobs import GrpoObjective
    from earl.training.grpo.loss import grpo_loss

    package = options.way.startswith("trl") and _trl()
    if package:  # before the clock starts and the memory is read
        from trl.kernels import ChunkedLogProbFunction
        from trl.trainer.utils import selective_log_softmax
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vocabulary = _vocabulary(options.vocabulary)
    model = make_policy(options, vocabulary).to(device)
    batch = make_group(options, vocabulary).to(torch.device(device))
    reference_BT = torch.where(batch.active_BT, -8.0, 0.0)
    start = batch.prefix_PL.shape[1]
    objective = GrpoObjective(model, vocabulary, Precision(compute="float32"), settings=LossSettings())
    columns = torch.arange(vocabulary.size, device=device) - vocabulary.first_visual

    def loss_of(logprobs_BT, rows: slice) -> float:
        parts = grpo_loss(
            logprobs_BT,
            batch.advantages_B[rows],
            batch.active_BT[rows],
            LossSettings(),
            reference_BT=reference_BT[rows],
        )
        (parts.total / batch.active).backward()
        return parts.total.item() / batch.active

    def ours() -> float:
        return loss_of(objective.score(model, batch, entropy=True)[0], slice(None))

    def one_by_one(logprobs: Callable) -> float:
        total = 0.0
        ids_BX = torch.cat([batch.prefix_PL[batch.owner_B], batch.ids_BT], dim=1)
        for row in range(len(ids_BX)):
            rows = slice(row, row + 1)
            # A completion begins with its forced opening, so the first id of a row has no loss.
            found = torch.nn.functional.pad(logprobs(ids_BX[rows]), (1, 0))
            total += loss_of(torch.where(batch.active_BT[rows], found, 0.0), rows)
        return total

    def release(ids_1X):
        logits = model(input_ids=ids_1X, use_cache=False).logits[:, start:-1].float()
        visual_T = batch.kinds_BT[0, 1:, None] == 2
        due = torch.where(visual_T, columns >= 0, columns < 0)
        targets = ids_1X[:, start + 1 :, None]
        return (
            logits.masked_fill(~due, float("-inf"))
            .log_softmax(-1)
            .gather(-1, targets)[..., 0]
            .nan_to_num(neginf=0.0)
        )

    def trl(ids_1X):
        keep = ids_1X.shape[1] - start
        logits = model(input_ids=ids_1X, use_cache=False, logits_to_keep=keep).logits[:, :-1].float()
        targets = ids_1X[:, start + 1 :]
        if package:
            return selective_log_softmax(logits, targets)
        chosen = logits.gather(-1, targets[..., None])[..., 0]
        return chosen - torch.stack([row.logsumexp(-1) for row in logits])

    def trl_fused(ids_1X):
        hidden = model.model(input_ids=ids_1X, use_cache=False).last_hidden_state[0, start:-1]
        targets = ids_1X[0, start + 1 :]
        head = model.lm_head.weight
        return ChunkedLogProbFunction.apply(hidden, head, None, targets, 1.0, FUSED_CHUNK, None, 1.0, ())[0][
            None
        ]

    others = {"release": release, "trl": trl, "trl-fused": trl_fused}
    run = ours if options.way == "ours" else lambda: one_by_one(others[options.way])
    return timed(model, run, options.repeats, device)


def timed(model, run: Callable[[], float], repeats: int, device: str) -> dict[str, float]:
    """Seconds of the fastest repetition, peak bytes of all, loss of the last."""
    before = _held(device)
    best, loss = float("inf"), 0.0
    for _ in range(repeats):
        model.zero_grad()
        began = _clock(device)
        loss = run()
        best = min(best, _clock(device) - began)
    return {"seconds": best, "peak": _peak(device) - before, "loss": loss}


def _vocabulary(name: str):
    from earl.sequence.vocabulary import Vocabulary

    return Vocabulary.compact(3_000, 1_000) if name == "small" else Vocabulary.released()


def make_policy(options: argparse.Namespace, vocabulary):
    """A policy with random weights of the size asked for."""
    from earl.policy.loading import create_policy

    sizes = {
        "hidden_size": options.hidden,
        "num_hidden_layers": options.layers,
        "num_attention_heads": max(1, options.hidden // 64),
        "num_key_value_heads": max(1, options.hidden // 256),
        "intermediate_size": options.hidden * 11 // 4,
        "max_position_embeddings": 8192,
    }
    return create_policy(sizes, vocabulary, 0)


def make_group(options: argparse.Namespace, vocabulary):
    """One prompt of a source image and 30 ids of text, `--group` completions of an image."""
    import numpy as np

    from earl.records import Completion, Verdict
    from earl.training.grpo.batches import Group, Rollout, make_batch

    rng, side = np.random.default_rng(0), options.side

    def image() -> tuple[list[int], list[int]]:
        ids, kinds = [vocabulary.boi, 1, 2, 3, vocabulary.img], [0] * 5
        for _ in range(side):
            codes = rng.integers(0, vocabulary.codebook_size, side) + vocabulary.first_visual
            ids += [*codes.tolist(), vocabulary.eol]
            kinds += [2] * side + [0]
        return [*ids, vocabulary.eof, vocabulary.eoi], [*kinds, 0, 0]

    prompt = (vocabulary.bos, *image()[0], *rng.integers(0, 2_000, 30).tolist())
    rollouts = []
    for index in range(options.group):
        ids, kinds = image()
        completion = Completion((*ids, vocabulary.eos), (0.0,) * (len(ids) + 1), "stop")
        rollouts.append(Rollout(completion, np.array([*kinds, 0], np.int8), Verdict("ok"), float(index)))
    group = Group("0", "", "", "simple", prompt, tuple(rollouts))
    advantages = np.linspace(-1, 1, options.group)
    return make_batch([group], [advantages.tolist()], pad=vocabulary.pad)


def _trl() -> str:
    """The version of the trl package; "" where it is not installed."""
    try:
        return f"trl {metadata.version('trl')}"
    except metadata.PackageNotFoundError:
        return ""


def _clock(device: str) -> float:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def _held(device: str) -> float:
    """Bytes held now, from where the peak is counted anew: what setting up took is not the update's."""
    import torch

    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts at what is held
        return _status("VmRSS")
    except OSError:  # not Linux: the peak so far, which the update may stay below
        return _peak(device)


def _status(name: str) -> float:
    """A figure of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _peak(device: str) -> float:
    """Bytes: the most held so far."""
    if device == "cuda":
        import torch

        return float(torch.cuda.max_memory_allocated())
    if Path("/proc/self/status").is_file():
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--group", type=int, default=3, help="rollouts of the prompt")
    parser.add_argument("--hidden", type=int, default=128, help="width, a multiple of 64")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1, help="updates of each way; the best counts")
    parser.add_argument("--side", type=int, default=32, help="rows and columns of an image; 32 is 256 px")
    parser.add_argument("--vocabulary", choices=("released", "small"), default="released")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
