"""Command-line options made from settings classes, and settings made from the options given.

A command is a function whose parameters are settings (`earl.config`). Each field becomes an option: its
name, type, range, choices, default and help text come from the field's own declaration. `Option` and
`Group` say what a declaration cannot.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from earl.config.options import OUT_FOLDER, Group, Option
from earl.config.settings import Settings, check_place
from earl.errors import ConfigError
from earl.files import check_writable


@dataclass(frozen=True)
class Leaf:
    """One option.

    Attributes:
        flag: "--top-k", or the name of a positional argument.
        parameter, path: which parameter of the command's function, and which field of it.
    """

    flag: str
    parameter: str
    path: tuple[str, ...]
    info: FieldInfo
    option: Option

    @property
    def dest(self) -> str:
        return ".".join((self.parameter, *self.path))


@dataclass(frozen=True)
class Parameter:
    """One settings object that a command takes: its class, and the options that fill it."""

    name: str
    schema: type[Settings]
    optional: bool
    group: Group
    leaves: list[Leaf] = field(default_factory=list)
    files: dict[tuple[str, ...], str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        words = re.sub(r"(?<!^)(?=[A-Z])", " ", self.schema.__name__.removesuffix("Settings")).lower()
        return self.group.title or words


def parameters_of(function: Callable[..., int | None]) -> list[Parameter]:
    """The settings that a command's function takes, with their options."""
    hints = get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    found = []
    for name, hint in hints.items():
        group = next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Group)), Group())
        schema, optional = _without_none(get_args(hint)[0] if get_origin(hint) is Annotated else hint)
        parameter = Parameter(name, schema, optional, group)
        if group.prefix:
            parameter.files[()] = f"--{group.prefix}file"
        _collect(parameter, schema, (), group.prefix)
        found.append(parameter)
    return found


def add_options(parser: argparse.ArgumentParser, parameters: list[Parameter]) -> None:
    """An option for each field of each parameter; the first parameter's stand alone, the others in groups."""
    for index, parameter in enumerate(parameters):
        group, prefix = parameter.group, f"--{parameter.group.prefix}"
        about = f"The model behind it is given by {prefix}…, as {group.like}-… gives that of the verifier."
        target = (
            parser.add_argument_group(parameter.title, about if group.like else None) if index else parser
        )
        for leaf in parameter.leaves:
            hidden = group.like and leaf.flag.startswith(prefix)
            _add(target, leaf, argparse.SUPPRESS if hidden else _help(leaf, parameter), parameter)
        for path, flag in parameter.files.items():
            dest = ".".join((parameter.name, *path, "<file>"))
            described = "TOML file of these settings; an option given here wins over it"
            target.add_argument(flag, dest=dest, metavar="FILE", default=argparse.SUPPRESS, help=described)


def bind(function: Callable[..., int | None], options: argparse.Namespace) -> Callable[[], int | None]:
    """The command with the settings that were asked for; its output folder is checked before any work.

    Raises:
        ConfigError: a value out of its range, one that is missing, or some that do not fit together; the
            sentence names the option.
        OutputError: the output folder cannot be written.
    """
    given, parameters = vars(options), parameters_of(function)
    bound = partial(function, **{parameter.name: _build(parameter, given) for parameter in parameters})
    for leaf in (leaf for parameter in parameters for leaf in parameter.leaves):
        if leaf.option == OUT_FOLDER and leaf.dest in given:
            check_writable(given[leaf.dest], folder=True)
    return bound


def _collect(parameter: Parameter, schema: type[Settings], path: tuple[str, ...], prefix: str) -> None:
    group = parameter.group
    for name, info in schema.model_fields.items():
        dotted = ".".join((*path, name))
        if dotted in group.omit or (group.only and not path and name not in group.only):
            continue
        inner, _ = _without_none(info.annotation)
        option = next((mark for mark in info.metadata if isinstance(mark, Option)), Option())
        flag = group.names.get(dotted, f"{prefix}{option.name or name}".replace("_", "-"))
        if isinstance(inner, type) and issubclass(inner, Settings):
            _collect(parameter, inner, (*path, name), f"{flag}-")
            if f"--{flag}-file" not in parameter.files.values():
                parameter.files[(*path, name)] = f"--{flag}-file"
        elif not _holds_settings(inner):
            flag = name if option.positional else f"--{flag}"
            parameter.leaves.append(Leaf(flag, parameter.name, (*path, name), info, option))


def _holds_settings(annotation: Any) -> bool:
    """A table of settings by name has no option; a file can hold it."""
    return any(isinstance(inner, type) and issubclass(inner, Settings) for inner in get_args(annotation))


def _add(target: Any, leaf: Leaf, text: str, parameter: Parameter) -> None:
    option, info = leaf.option, leaf.info
    inner, _ = _without_none(info.annotation)
    words: dict[str, Any] = {"dest": leaf.dest, "default": argparse.SUPPRESS, "help": text}
    names = [name for name in (option.short, leaf.flag) if name]
    if option.positional:
        words |= {"metavar": option.metavar or leaf.flag.upper()}
        names = [words.pop("dest")]
        if get_origin(inner) is tuple:
            words["nargs"] = "+" if info.is_required() else "*"
        elif not info.is_required():
            words["nargs"] = "?"
        words["type"] = _reader(_item(inner))
    elif inner is bool and info.default is None:
        words["action"] = argparse.BooleanOptionalAction
    elif inner is bool:
        if info.default is True:
            names = [name.replace("--", "--no-", 1) for name in names]
        words["action"] = "store_false" if info.default is True else "store_true"
    else:
        words["metavar"] = option.metavar or _metavar(leaf, inner)
        if _kind(inner) is dict:
            words["nargs"] = "+"
        elif get_origin(inner) is tuple:
            words |= {"nargs": "+", "type": _reader(_item(inner))}
            if get_args(inner)[-1] is not Ellipsis:
                words["nargs"] = len(get_args(inner))
        else:
            words["type"] = _reader(inner)
        choices = _choices(_item(inner))
        if choices and not option.metavar:
            words.pop("metavar")
            words["choices"] = choices
        nested = len(leaf.path) > 1 or parameter.optional or leaf.path[0] in parameter.group.defaults
        nested = nested or () in parameter.files
        words["required"] = info.is_required() and not nested
    target.add_argument(*names, **words)


def _help(leaf: Leaf, parameter: Parameter) -> str:
    info, inner = leaf.info, _without_none(leaf.info.annotation)[0]
    default = parameter.group.defaults.get(".".join(leaf.path), info.default)
    notes = [_range(info)] if _range(info) else []
    if (
        default not in ("", ())
        and default is not None
        and default is not PydanticUndefined
        and inner is not bool
    ):
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        notes.append(f"default: {shown:g}" if isinstance(default, float) else f"default: {shown}")
    text = info.description or ""
    if notes and text.endswith(")") and "(default" in text:
        text = f"{text[:-1]}; {'; '.join(notes)})"
    elif notes:
        text = f"{text} ({'; '.join(notes)})"
    return text.strip().replace("%", "%%")


def _range(info: FieldInfo, *, every: bool = False) -> str:
    """The numbers that a field takes, in words. An upper bound of 2^32 or more is named only if `every`."""
    bounds = dict(_bounds(info))
    words = [
        f"{word} {bounds[name] if bounds[name] >= 2**32 else format(bounds[name], 'g')}"
        for name, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))
        if name in bounds and not (name == "lt" and bounds[name] >= 2**32 and not every)
    ]
    if "ge" in bounds and "le" in bounds:
        words = [f"{bounds['ge']:g} to {bounds['le']:g}"]
    if "multiple_of" in bounds:
        words.append(f"a multiple of {bounds['multiple_of']:g}")
    return ", ".join(words)


def _bounds(info: Any) -> Iterator[tuple[str, float]]:
    for mark in info.metadata if isinstance(info, FieldInfo) else getattr(info, "__metadata__", ()):
        if isinstance(mark, FieldInfo):
            yield from _bounds(mark)
        for name in ("ge", "gt", "le", "lt", "multiple_of"):
            if hasattr(mark, name) and getattr(mark, name) is not None:
                yield name, getattr(mark, name)
    if isinstance(info, FieldInfo):
        for inner in (info.annotation, *get_args(info.annotation)):
            yield from _bounds(inner) if get_origin(inner) is Annotated else ()


def _build(parameter: Parameter, given: Mapping[str, Any]) -> Settings | None:
    values: dict[str, Any] = {}
    sources: dict[tuple[str, ...], str] = {}
    for path, _ in parameter.files.items():
        file = given.get(".".join((parameter.name, *path, "<file>")))
        if file is not None:
            from earl.config.recipe import read_recipe_table

            for key, value in read_recipe_table(file).items():
                _put(values, (*path, key), tuple(value) if isinstance(value, list) else value)
                sources[(*path, key)] = str(file)
    for leaf in parameter.leaves:
        if leaf.dest in given:
            value = given[leaf.dest]
            inner, _ = _without_none(leaf.info.annotation)
            if _kind(inner) is dict:
                value = _table(leaf, value)
            _put(values, leaf.path, tuple(value) if isinstance(value, list) else value)
            sources.pop(leaf.path, None)
    if parameter.optional and not values:
        return None
    for key, value in parameter.group.defaults.items():
        values.setdefault(key, value)
    try:
        return parameter.schema.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(parameter, error, sources)) from error


def _put(values: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        values = values.setdefault(name, {})
    values[path[-1]] = value


def _table(leaf: Leaf, pairs: list[str]) -> Any:
    """`key=value` pairs as a table, values in TOML or as they are; a single word as itself."""
    if len(pairs) == 1 and "=" not in pairs[0]:
        return pairs[0]
    table: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise ConfigError(f"{leaf.flag} {pair!r}: expected KEY=VALUE")
        try:
            table[key] = json.loads(text)
        except ValueError:
            table[key] = text
    return table


def _sentence(parameter: Parameter, error: ValidationError, sources: Mapping[tuple[str, ...], str]) -> str:
    """The first thing that is wrong, with the option's name in place of the field's."""
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    location = tuple(map(str, problem["loc"]))
    leaf = next((leaf for leaf in parameter.leaves if leaf.path == location[: len(leaf.path)]), None)
    where = leaf.flag if leaf else ".".join(location)
    file = next((name for path, name in sources.items() if path == location[: len(path)]), None)
    if file is not None:
        where = f"{file}: {'.'.join(location)}"
    if problem["type"] == "extra_forbidden":
        beside = [leaf.path[-1] for leaf in parameter.leaves if leaf.path[:-1] == location[:-1]]
        return f"{where} is no setting of it; there are {', '.join(beside)}"
    if problem["type"] == "missing":
        return f"{where} is missing: {leaf.info.description if leaf else 'it has no default'}"
    if problem["type"] == "value_error":
        message = problem["msg"].removeprefix("Value error, ")
        if leaf is not None and leaf.path == location:
            return f"{where}: {message}"
        return _with_flags(parameter, location, message)
    if leaf is None:
        return f"{where} = {problem['input']!r}: {problem['msg']}"
    expected = (
        _range(leaf.info, every=problem["type"] == "less_than") or leaf.info.description or problem["msg"]
    )
    return f"{where} {problem['input']}: expected {expected}"


def _with_flags(parameter: Parameter, location: tuple[str, ...], message: str) -> str:
    """A message about fields (`samples = 2 with temperature = 0`) as one about options."""
    for leaf in sorted(parameter.leaves, key=lambda leaf: -len(leaf.dest)):
        if leaf.option.positional:
            continue
        names = [".".join(leaf.path)] if len(leaf.path) > 1 else []
        names += [leaf.path[-1]] if leaf.path[:-1] == location else []
        for name in names:
            certain = "_" in name or "." in name  # another word of the sentence has neither
            pattern = rf"(?<![\w.-]){re.escape(name)}(?:( = )|(?![\w.]))"
            message = re.sub(pattern, _flag_in(leaf, certain), message)
    return message


def _flag_in(leaf: Leaf, certain: bool) -> Callable[[re.Match[str]], str]:
    """A field's name becomes its option where a value follows, or where it is no common word."""
    return lambda match: f"{leaf.flag} " if match[1] else leaf.flag if certain else match[0]


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """(the annotation without None, whether None was in it)."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    rest = tuple(inner for inner in get_args(annotation) if inner is not type(None))
    return (rest[0] if len(rest) == 1 else Union[rest]), len(rest) < len(get_args(annotation))  # noqa: UP007


def _plain(annotation: Any) -> Any:
    return _plain(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def _members(annotation: Any) -> tuple[Any, ...]:
    annotation = _plain(annotation)
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _kind(annotation: Any) -> Any:
    return dict if any(get_origin(inner) is dict for inner in _members(annotation)) else None


def _item(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is tuple else annotation


def _choices(annotation: Any) -> list[str] | None:
    annotation = _plain(annotation)
    return [str(value) for value in get_args(annotation)] if get_origin(annotation) is Literal else None


def _metavar(leaf: Leaf, inner: Any) -> str:
    members = [_plain(member) for member in _members(_item(inner))]
    if _kind(inner) is dict:
        return "KEY=VALUE"
    if int in members or float in members:
        return "N" if int in members else "X"
    return "FILE" if Path in members else leaf.path[-1].rpartition("_")[2].upper()


def _reader(annotation: Any) -> Callable[[str], Any]:
    """Reads a word as the first of the annotation's types that it fits."""
    members = [_plain(member) for member in _members(annotation)]
    words = {
        str(value): value for member in members if get_origin(member) is Literal for value in get_args(member)
    }
    types = [kind for kind in (int, float, Path, str) if kind in members]

    def read(text: str) -> Any:
        if text in words:
            return words[text]
        for kind in types:
            try:
                return _path(text) if kind is Path else kind(text)
            except ValueError:
                continue
        raise (
            ValueError(text)
            if types
            else argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
        )

    read.__name__ = {int: "whole number", float: "number"}.get(types[0] if types else str, "value")
    return read


def _path(text: str) -> Path:
    try:
        return Path(check_place(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
