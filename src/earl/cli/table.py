"""The table of commands, and the lookup of the one that was typed. Standard library only.

A command is a function whose parameters are settings: its options are made from them
(`earl.cli.settings`). Its module is imported when the command is asked for.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import groupby
from typing import NoReturn

Function = Callable[..., "int | None"]


@dataclass(frozen=True)
class Command:
    """One command: the words that are typed, `module:function`, one line of help."""

    topic: str
    words: str
    home: str
    help: str

    def load(self) -> Function:
        """The function. Raises ConfigError where its package is not installed."""
        module, _, name = self.home.partition(":")
        try:
            function: Function = getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            from earl.errors import ConfigError

            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            raise ConfigError(f"`earl {self.words}` needs {error.name}, which is not installed") from error
        return function

    def parser(self, function: Function) -> Parser:
        """The parser of its options."""
        from earl.cli.settings import add_options, parameters_of

        parser = Parser(
            prog=f"earl {self.words}",
            description=f"{self.help[0].upper()}{self.help[1:]}.",
            formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=28),
            allow_abbrev=False,
        )
        add_options(parser, parameters_of(function))
        parser.usage = parser.short_usage().replace("%", "%%")
        return parser


COMMANDS = tuple(
    Command(topic, *row)
    for topic, rows in {
        "edit": (
            ("edit", "earl.cli.edit:edit", "edit an image as an instruction says"),
            ("demo", "earl.world.commands:demo", "edit an example image with the shipped model"),
        ),
        "own data": (
            ("prepare world", "earl.world.commands:prepare", "draw and tokenise edits of the world"),
            ("prepare text", "earl.world.commands:prepare_text", "learn a small text tokenizer"),
            (
                "prepare edits",
                "earl.cli.targets:prepare_edits",
                "draw target images with a model, the best by a verifier",
            ),
            (
                "prepare tokenised",
                "earl.cli.targets:prepare_tokenised",
                "write the authors' tokenised samples as shards",
            ),
            ("prepare", "earl.cli.data:prepare", "tokenise your own edits, or a data set by name"),
            ("data sources", "earl.cli.data:sources", "list the data sets and benchmarks known by name"),
            (
                "data images",
                "earl.cli.targets:images",
                "measure how well a vision tokenizer keeps your images",
            ),
            ("data stats", "earl.cli.data:stats", "count what tokenised shards hold, and show some of it"),
            ("data check-overlap", "earl.cli.data:overlap", "find evaluation images among training images"),
            ("reason make", "earl.cli.data:reason", "have a multimodal model write chains of thought"),
        ),
        "train": (
            ("train tokenizer", "earl.cli.train:tokenizer", "train a vision tokenizer"),
            ("train sft", "earl.cli.train:sft", "fine-tune a policy on example edits"),
            ("train dpo", "earl.cli.train:dpo", "tune a policy to preferred edits, by pairs (DPO)"),
            ("train grpo", "earl.cli.train:grpo", "train a policy by reinforcement, on a verifier's scores"),
            ("report", "earl.cli.evaluate:report", "write a training run or an evaluation as one HTML page"),
        ),
        "evaluate": (
            ("evaluate tokenizer", "earl.world.measures:tokenizer", "measure a vision tokenizer"),
            ("evaluate compare", "earl.cli.evaluate:compare", "compare two evaluations, task by task"),
            ("evaluate table", "earl.cli.evaluate:table", "put evaluations beside published results"),
            ("evaluate vote", "earl.cli.evaluate:vote", "vote on two evaluations, blind, in a browser"),
            ("evaluate", "earl.cli.evaluate:evaluate", "edit and score a benchmark or your own edits"),
            ("verifier agree", "earl.cli.evaluate:agree", "rank correlation of a verifier with people"),
            ("verifier calibrate", "earl.world.measures:calibrate", "score edits known to be good or bad"),
            ("verify", "earl.world.commands:verify", "score one edit of a world image"),
        ),
        "serve": (
            ("serve", "earl.cli.serve:edits", "serve edits over HTTP (OpenAI's image API)"),
            ("ui", "earl.cli.serve:page", "serve a web page to edit images on"),
            ("verifier serve", "earl.cli.serve:verifier", "serve a verifier over HTTP (OpenAI's chat API)"),
            ("verifier ask", "earl.cli.serve:ask", "ask a judge about one edit, or show what would be sent"),
            ("verifier check", "earl.cli.serve:check", "see whether a judge answers, and which model it is"),
        ),
        "models": (
            ("models", "earl.cli.models:models", "list the shipped and the released models"),
            ("convert", "earl.cli.models:convert", "write a model of any layout as one checked folder"),
            ("merge", "earl.cli.models:merge", "write a weighted sum of policies of one shape"),
            ("push", "earl.cli.models:push", "upload a run's model to the Hugging Face Hub, with its card"),
        ),
        "more": (
            ("world sample", "earl.world.commands:sample", "write example tasks of the world as images"),
            ("completion", "earl.cli.completion:completion", "print completions for bash, zsh or fish"),
        ),
    }.items()
    for row in rows
)


class Parser(argparse.ArgumentParser):
    """argparse with a short usage line, whose errors are one sentence that says where the help is."""

    def short_usage(self) -> str:
        """The required arguments, in one line."""
        needed = [action for action in self._actions if action.required and action.option_strings]
        words = [f"{action.option_strings[0]} {action.metavar or action.dest}" for action in needed]
        for action in self._get_positional_actions():
            many = " …" if action.nargs in ("+", "*") else ""
            name = f"{action.metavar}{many}"
            words.append(f"[{name}]" if action.nargs in ("?", "*") else name)
        return " ".join([self.prog, *words, "[options]"])

    def error(self, message: str) -> NoReturn:
        from earl.errors import shortened
        from earl.progress import complain

        message = shortened(message.removeprefix("argument "))
        if unknown := re.match(r"unrecognized arguments: (--[\w-]+)", message):
            near = difflib.get_close_matches(unknown[1], self._option_string_actions, n=1)
            message += f" (did you mean {near[0]}?)" if near else ""
        *front, last = self.prog.split()
        if len(front) > 1 and os.path.exists(last):  # as `earl prepare edits`
            message += f"; for the path {last} write ./{last}"
        complain(f"{self.prog}: {message}; see `{self.prog} --help`")
        raise SystemExit(2)


def parse(argv: list[str]) -> Callable[[], int | None]:
    """The command with its settings, ready to run.

    Raises:
        SystemExit: help was printed, or there is no such command or option.
        ConfigError: a value out of its range, or some that do not fit together.
    """
    from earl.progress import say

    if not argv or argv[0] in ("-h", "--help", "help"):
        say(overview())
        raise SystemExit(0 if argv else 2)
    if argv[0] in ("--version", "-V"):
        from earl import __version__

        say(f"earl {__version__}")
        raise SystemExit(0)
    command = find(argv)
    function = command.load()
    from earl.cli.settings import bind

    words = argv[len(command.words.split()) :]
    return bind(function, command.parser(function).parse_intermixed_args(words))


def find(argv: list[str]) -> Command:
    """The command whose words begin `argv`. Raises SystemExit with a hint when there is none."""
    from earl.progress import complain, say

    matching = (
        command for command in COMMANDS if argv[: len(command.words.split())] == command.words.split()
    )
    best = max(matching, key=lambda command: len(command.words), default=None)
    group = tuple(command for command in COMMANDS if command.words.split()[0] == argv[0])
    if best:
        return best
    if group and (len(argv) == 1 or argv[1] in ("-h", "--help")):
        say(overview(group))
        raise SystemExit(0 if len(argv) > 1 else 2)
    typed = " ".join(argv[:2]) if group else argv[0]
    known = [command.words for command in group or COMMANDS]
    near = difflib.get_close_matches(typed, known, n=1)
    hint = f"did you mean `earl {near[0]}`?" if near else f"there are: {', '.join(known)}"
    complain(f"earl: no command {typed[:80]!r}; {hint}")
    raise SystemExit(2)


def overview(commands: tuple[Command, ...] = COMMANDS) -> str:
    """The help of all commands, or of one group."""
    return "\n".join(
        [
            "usage: earl COMMAND [options]",
            "",
            "Image editing with one autoregressive transformer.",
            *_rows(commands),
            "",
            "`earl COMMAND --help` lists a command's options; `earl --version` prints the version.",
        ]
    )


def _rows(commands: tuple[Command, ...]) -> Iterator[str]:
    width = max(len(command.words) for command in commands)
    for topic, members in groupby(commands, key=lambda command: command.topic):
        yield f"\n{topic}:"
        yield from (f"  {command.words:<{width}}  {command.help}" for command in members)
