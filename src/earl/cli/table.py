"""The commands there are, and finding the one that was meant. Standard library only.

A command's module has `add_options(parser)` and `run(options) -> int`; where one module holds
several commands, they are functions `add_options_NAME` and `run_NAME`.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

Run = Callable[[argparse.Namespace], int]


@dataclass(frozen=True)
class Command:
    """One row of `earl --help`. `words` is what is typed, "world sample"."""

    words: str
    module: str
    help: str
    suffix: str = ""

    def load(self, name: str) -> Callable:
        return getattr(import_module(f"earl.cli.{self.module}"), name + self.suffix)


COMMANDS = (
    Command("demo", "demo", "edit an example image with the shipped model and show before and after"),
    Command("edit", "edit", "edit an image as an instruction says"),
    Command("verify", "verify", "score an edit of a world image, four scores 0-10"),
    Command("verifier serve", "verifier", "serve a verifier over HTTP, in the shape of OpenAI's chat API"),
    Command(
        "verifier check", "verifier", "see whether a judge can be reached, and which model it is", "_check"
    ),
    Command("verifier calibrate", "calibrate", "how the scene verifier scores edits known good and bad"),
    Command("verifier agree", "agree", "rank correlation of a verifier with human ratings"),
    Command(
        "evaluate tokenizer", "evaluate_tokenizer", "what a vision tokenizer keeps of unseen world images"
    ),
    Command("evaluate compare", "evaluate_compare", "compare two evaluations, task by task"),
    Command("evaluate table", "evaluate_compare", "put evaluations beside the paper's results", "_table"),
    Command("evaluate page", "evaluate_compare", "write an evaluation as one HTML page", "_page"),
    Command("evaluate", "evaluate_benchmark", "edit and score a benchmark of the paper, or your own edits"),
    Command("world sample", "world", "write example tasks of the world as PNG and JSON"),
    Command("prepare world", "prepare", "render, tokenise and store world edits for training"),
    Command("prepare text", "prepare", "learn a small text tokenizer from the world's sentences", "_text"),
    Command("prepare", "prepare_source", "tokenise a data set of the paper, a benchmark, or your own images"),
    Command("data sources", "data", "list the built-in data sets and benchmarks", "_sources"),
    Command("data stats", "data", "count what tokenised shards hold, and draw a sheet of it", "_stats"),
    Command("data check-overlap", "data", "find evaluation images among training images", "_overlap"),
    Command("data weights", "data", "weights of a mixture, upsampled or by temperature", "_weights"),
    Command("reason make", "reason", "write chains of thought for prepared edits, by a multimodal model"),
    Command("train tokenizer", "train", "learn a vision tokenizer", "_tokenizer"),
    Command("train sft", "train", "learn editing from examples", "_sft"),
    Command("train grpo", "train", "learn editing from a verifier's scores", "_grpo"),
    Command("report", "report", "one HTML page about a training run or an evaluation"),
    Command("models", "models", "list the shipped and the released models"),
    Command("convert", "convert", "write one clean folder of a model of any layout, and check it"),
    Command("merge", "merge", "write a weighted sum of policies of one shape"),
)


class _Formatter(argparse.HelpFormatter):
    """Shows a default where there is one to show."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        shown = action.default not in (None, False, (), argparse.SUPPRESS) and action.option_strings
        return f"{action.help or ''} (default: {action.default})".strip() if shown else action.help


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are one sentence that says where the help is."""

    def error(self, message: str) -> NoReturn:
        print(f"{self.prog}: {message}; see `{self.prog} --help`", file=sys.stderr)
        raise SystemExit(2)


def parse(argv: list[str]) -> tuple[Run, argparse.Namespace]:
    """Find the command and read its options. Raises SystemExit after help or a wrong option."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        raise SystemExit(0 if argv else 2)
    if argv[0] in ("--version", "-V"):
        from earl import __version__

        print(f"earl {__version__}")
        raise SystemExit(0)
    command = find(argv)
    count = len(command.words.split())
    parser = Parser(
        prog=f"earl {command.words}",
        description=command.help[0].upper() + command.help[1:] + ".",
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    command.load("add_options")(parser)
    return command.load("run"), parser.parse_intermixed_args(argv[count:])


def find(argv: list[str]) -> Command:
    """The command whose words begin `argv`. Raises SystemExit with a hint when there is none."""
    for command in COMMANDS:
        words = command.words.split()
        if argv[: len(words)] == words:
            return command
    group = [command for command in COMMANDS if command.words.split()[0] == argv[0]]
    if group and (len(argv) == 1 or argv[1] in ("-h", "--help")):
        print(overview(tuple(group)))
        raise SystemExit(0 if len(argv) > 1 else 2)
    typed = " ".join(argv[:2]) if group else argv[0]
    known = [command.words for command in group or COMMANDS]
    near = difflib.get_close_matches(typed, known, n=1)
    hint = f"did you mean `earl {near[0]}`?" if near else f"there are: {', '.join(known)}"
    print(f"earl: no command {typed!r}; {hint}", file=sys.stderr)
    raise SystemExit(2)


def overview(commands: tuple[Command, ...] = COMMANDS) -> str:
    """The help of all commands, or of one group."""
    width = max(len(command.words) for command in commands)
    rows = [f"  {command.words:<{width}}  {command.help}" for command in commands]
    return "\n".join(
        [
            "usage: earl COMMAND [options]",
            "",
            "Image editing with one autoregressive transformer.",
            "",
            "commands:",
            *rows,
            "",
            "`earl COMMAND --help` tells a command's options; `earl --version` the version.",
        ]
    )
