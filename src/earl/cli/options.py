"""Options that several commands share, with their ranges. Standard library only."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16", "float16")
SPLITS = ("train", "validation", "test", "heldout")


def integer(low: int, high: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers in [low, high]."""

    def read(text: str) -> int:
        value = int(text)
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"{value} is outside {_range(low, high)}")
        return value

    read.__name__ = "whole number"
    return read


def number(low: float, high: float | None = None, *, above: bool = False) -> Callable[[str], float]:
    """A reader of finite numbers in [low, high], or in (low, high] with `above`."""

    def read(text: str) -> float:
        value = float(text)
        inside = low < value if above else low <= value
        if not inside or (value > high if high is not None else value == float("inf")):
            raise argparse.ArgumentTypeError(f"{value:g} is outside {_range(low, high, above)}")
        return value

    read.__name__ = "number"
    return read


def _range(low: float, high: float | None, above: bool = False) -> str:
    if high is None:
        return f"above {low:g}" if above else f"{low:g} and up"
    return f"{'(' if above else '['}{low:g}, {high:g}]"


seed = integer(0, 2**63 - 1)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model, from where, on what."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", default="world", help="'world' (shipped), a folder, or a hub id owner/name")
    group.add_argument("--tokenizer", metavar="MODEL", help="take the text tokenizer from another model")
    group.add_argument("--vision", metavar="MODEL", help="take the vision tokenizer from another model")
    group.add_argument("--revision", help="branch, tag or commit of a hub id")
    group.add_argument("--device", choices=DEVICES, default="auto", help="auto: CUDA where there is one")
    group.add_argument(
        "--dtype", choices=DTYPES, default="auto", help="auto: bfloat16 on CUDA, else as stored"
    )
    group.add_argument(
        "--quantize",
        choices=("int8", "int4"),
        help="hold the policy's matrices in 8 or 4 bits (earl-edit[quant])",
    )
    group.add_argument(
        "--device-map", choices=("auto",), help="auto: share the policy's layers out over the GPUs there are"
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How the image codes are drawn."""
    group = parser.add_argument_group("sampling")
    group.add_argument("--seed", type=seed, default=0, help="same seed, same image")
    group.add_argument("--temperature", type=number(0, 100, above=True), default=1.0)
    group.add_argument("--top-k", type=integer(0), default=2048, help="likeliest codes kept; 0 keeps all")
    group.add_argument(
        "--top-p", type=number(0, 1, above=True), default=1.0, help="share of the probability kept"
    )
    group.add_argument("--greedy", action="store_true", help="always the likeliest code")
    group.add_argument(
        "--guidance",
        type=number(1, 100),
        default=1.0,
        help="lead away from the negative instruction; 1: not at all; above: twice the work. For --greedy "
        "or a low temperature",
    )
    group.add_argument(
        "--negative-instruction",
        metavar="TEXT",
        help="what guidance leads away from (default: keep the image as it is)",
    )


def sampling_of(options: argparse.Namespace) -> dict[str, Any]:
    """The sampling options as keyword arguments of the pipeline.

    Raises:
        ConfigError: --negative-instruction without --guidance. InstructionError: it holds no words.
    """
    names = ["temperature", "top_k", "top_p", "greedy", "guidance"]
    given = {name: getattr(options, name) for name in names}
    if options.negative_instruction is None:
        return given
    from earl.errors import ConfigError
    from earl.sequence import check_instruction

    if options.guidance == 1:
        raise ConfigError("--negative-instruction is for --guidance above 1: give both, or neither")
    return given | {
        "negative_instruction": check_instruction(options.negative_instruction, "--negative-instruction")
    }


def load_pipeline(options: argparse.Namespace):
    """The pipeline that `add_model`'s options name. Imports torch.

    Threads that wait are made to sleep, unless the environment says otherwise: where a process has
    fewer cores than threads (a container, a busy machine) spinning ones slow sampling a hundredfold.
    OpenMP reads this once, when torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TORCH_DEVICE_BACKEND_AUTOLOAD", "0")  # backends of other packages are not used
    from earl.config import ModelSettings
    from earl.pipeline import build_pipeline

    given = {name: getattr(options, name) for name in ModelSettings.model_fields if hasattr(options, name)}
    return build_pipeline(ModelSettings(**given))
