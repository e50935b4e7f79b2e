"""Measure the 8.5 B model, with random weights, on one GPU: `python -m benchmarks.gpu`.

Edits end to end, tokens a second by batch, one GRPO step of 16 x 8 rollouts without a judge, one SFT step,
the vision tokenizer beside the stock class. Writes `gpu.json` and `gpu.md` with date and hardware after each
measure, so that what stops halfway leaves what it had. `--size small --device cpu` runs all of it on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from benchmarks.__main__ import machine
from benchmarks.gpu.measures import MEASURES, Row
from benchmarks.gpu.models import SCALES, make_models


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print, write; returns the record that is written."""
    options = _options(arguments)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    models = make_models(options.size, options.device)
    count = sum(parameter.numel() for parameter in models.policy.parameters())
    record: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "device": options.device,
        "size": options.size,
        "parameters": count,
        "dtype": str(models.policy.dtype).removeprefix("torch."),
        "measures": {},
    }
    print(f"{record['machine']}, {record['date']}; {options.size}, {count:,} parameters, {record['dtype']}")
    for name in options.only or MEASURES:
        rows = MEASURES[name](models)
        record["measures"][name] = [row.to_dict() for row in rows]
        for row in rows:
            print(f"{name:10} {_shown(row)}", flush=True)
        _write(options.out, record)
    return record


def _shown(row: Row) -> str:
    return f"{row.name}: {row.value:.4g} {row.unit}{f' ({row.detail})' if row.detail else ''}"


def _write(folder: Path, record: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"{record['machine']}, {record['date']}: random weights, {record['parameters']:,} parameters, "
        f"{record['dtype']}, device {record['device']}.",
        "",
        "| what | | value | unit | of |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, rows in record["measures"].items():
        lines += [f"| {name} | {r['name']} | {r['value']:.4g} | {r['unit']} | {r['detail']} |" for r in rows]
    contents = (("gpu.json", json.dumps(record, indent=1)), ("gpu.md", "\n".join(lines)))
    for name, text in contents:
        beside = folder / f".{name}.tmp"
        beside.write_text(text + "\n", encoding="utf-8")
        os.replace(beside, folder / name)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=list(SCALES), default="8b")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("out/gpu"), help="folder for gpu.json and gpu.md")
    parser.add_argument("--only", nargs="+", choices=list(MEASURES), help="some of the measures")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves its choice")
    options = parser.parse_args(arguments)
    if options.size == "8b" and options.device == "cpu":
        parser.error("8.5 B parameters on a CPU take hours; give --size small, or --device cuda on a GPU")
    return options


if __name__ == "__main__":
    main()
