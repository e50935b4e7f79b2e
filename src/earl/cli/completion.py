"""`earl completion bash|zsh|fish`: a completion script made from the commands and their options."""

from __future__ import annotations

from argparse import SUPPRESS
from typing import Annotated, Literal

from pydantic import Field

from earl.cli.table import COMMANDS
from earl.config import Settings
from earl.config.options import POSITIONAL
from earl.progress import say

_BASH = """\
_earl() {{
    local words="${{COMP_WORDS[*]:1:COMP_CWORD-1}}" current="${{COMP_WORDS[COMP_CWORD]}}" options=
    case "$words" in
{cases}
        *) [[ $COMP_CWORD == 1 ]] && options="{first}" ;;
    esac
    COMPREPLY=($(compgen -W "$options" -- "$current"))
    [[ $current != -* && ${{#COMPREPLY[@]}} == 0 ]] && COMPREPLY=($(compgen -f -- "$current"))
}}
complete -o filenames -F _earl earl"""


class CompletionOptions(Settings):
    shell: Annotated[Literal["bash", "zsh", "fish"], POSITIONAL] = Field(description="bash, zsh or fish")


def completion(options: CompletionOptions) -> None:
    """Print a script for a shell to read: `eval "$(earl completion bash)"`."""
    script = _fish() if options.shell == "fish" else _bash()
    bridge = "autoload -U +X bashcompinit && bashcompinit\n" if options.shell == "zsh" else ""
    say(bridge + script)


def _options() -> dict[str, list[str]]:
    """The options of each command, by its words."""
    found = {}
    for command in COMMANDS:
        shown = [a for a in command.parser(command.load())._actions if a.help != SUPPRESS]
        found[command.words] = [name for action in shown for name in action.option_strings]
    return found


def _next_words() -> dict[str, list[str]]:
    """The second words of commands of two, by their first."""
    found: dict[str, list[str]] = {}
    for command in COMMANDS:
        first, *rest = command.words.split()
        found.setdefault(first, []).extend(rest)
    return found


def _bash() -> str:
    options, following = _options(), _next_words()
    longest_first = sorted(options.items(), key=lambda item: -len(item[0]))
    cases = [f'        "{words}"*) options="{" ".join(names)}" ;;' for words, names in longest_first]
    firsts = [
        f'        "{first}") options="{" ".join([*rest, *options.get(first, [])])}" ;;'
        for first, rest in following.items()
        if rest
    ]
    return _BASH.format(cases="\n".join([*firsts, *cases]), first=" ".join(following))


def _fish() -> str:
    options, following = _options(), _next_words()
    lines = [f"complete -c earl -n __fish_use_subcommand -f -a {first}" for first in following]
    for first, rest in following.items():
        if rest:
            seen = (
                f"__fish_seen_subcommand_from {first}; and not __fish_seen_subcommand_from {' '.join(rest)}"
            )
            lines.append(f"complete -c earl -n '{seen}' -f -a '{' '.join(rest)}'")
    for words, names in options.items():
        seen = "; and ".join(f"__fish_seen_subcommand_from {word}" for word in words.split())
        for name in names:
            kind = "l" if name.startswith("--") else "s"
            lines.append(f"complete -c earl -n '{seen}' -{kind} {name.lstrip('-')}")
    return "\n".join(lines)
