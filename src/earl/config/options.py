"""Annotations of settings for their command-line options: names, groups, metavars (`earl.cli.settings`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """How one field is given.

    Attributes:
        name: where it is not the field's ("json" for a field `as_json`).
        short: a second name, "-o".
        metavar: what stands for the value in the help.
        positional: given by its place, without a name.
    """

    name: str = ""
    short: str = ""
    metavar: str = ""
    positional: bool = False


@dataclass(frozen=True)
class Group:
    """How the fields of a settings class are given, where a command takes one.

    Attributes:
        title: heading in the help; the class's name when empty.
        prefix: in front of each option's name, "judge-".
        names: option names that differ, by field ("judge.url" for a field of a field).
        only, omit: fields that this command takes, or leaves out.
        defaults: values that differ from the class's own, by field.
        like: the options that these repeat; the help then names them in one line.
    """

    title: str = ""
    prefix: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    omit: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    like: str = ""


POSITIONAL = Option(positional=True)
OUT = Option(short="-o", metavar="FILE")
OUT_FOLDER = Option(short="-o", metavar="FOLDER")
JSON = Option(name="json")
JSON_FILE = Option(name="json", metavar="FILE")
MODEL = Option(metavar="MODEL")


def verifier_group(kind: str) -> Group:
    """`--verifier KIND` with `--judge-…` for the model behind it; `kind` is the default."""
    names = {"kind": "verifier", "judge": "judge"}
    return Group(title="verifier", prefix="verifier-", names=names, defaults={"kind": kind})


BEST_BY = Group(
    title="the verifier that picks the best",
    prefix="best-by-",
    names={"kind": "best-by", "judge": "best-by"},
    like="--judge",
)
"""`--best-by KIND`: a second verifier of a command, for best of N."""
