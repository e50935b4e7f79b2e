"""Base class of all settings, and the number types that they share."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from earl.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

Rate = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, lt=2**63)]  # beyond it sums of bytes and operations are no numbers
Steps = Annotated[int, Field(ge=0, lt=2**63)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Temperature = Annotated[float, Field(ge=1e-4, le=100)]  # logits divided by less are no numbers
Seconds = Annotated[float, Field(gt=0, le=86_400)]


_PLAIN = {
    "Input should be ": "expected ",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
    "a valid string": "text, in quotes",
    "a valid boolean": "true or false",
    "an object": "a section of settings",
}
"""Words of pydantic's messages, and what they are here."""


def check_place(path: Any) -> Any:
    """A path as text with `~` expanded, whether something is there or not.

    Raises ValueError: it is empty, or no file system takes it.
    """
    text = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(text, str):
        return path
    if not text:
        raise ValueError("'' names no file; give a path")
    try:
        place = Path(text).expanduser()
        os.stat(place)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: there is no such user's home
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{text[:80]!r} is no path that can be used: {why}") from error
    return str(place) if text.startswith("~") else text


Place = Annotated[str, BeforeValidator(check_place)]
"""A path, or what names one."""


class Settings(BaseModel):
    """A group of settings: frozen, no unknown keys, no silent conversions between types.

    Recipes hold settings, functions take them, and the command line makes its options from their fields.

    Raises:
        ConfigError: an unknown name (the nearest real one is named), a value of another type or out of its
            range, or fields that disagree.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        defer_build=True,  # an edit needs few of the classes that are imported
    )

    if not TYPE_CHECKING:

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise ConfigError(explain(type(self), error)) from error

        __init__.__pydantic_base_init__ = True  # sections inside a recipe are made without it

    def problems(self) -> Iterator[str]:
        """Disagreements between fields that are valid one by one; the first is raised."""
        yield from ()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for problem in self.problems():
            raise ValueError(problem)
        return self

    def replace(self, **changes: Any) -> Self:
        """The same settings with some changed, checked again. Raises ConfigError."""
        return type(self)(**{**dict(self), **changes})


def explain(schema: type[Settings], error: ValidationError) -> str:
    """The first thing that is wrong, in one sentence."""
    # An unknown key first: a missing or default field next to it is often only its consequence.
    problem = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}; {_nearest(schema, where)}"
    if problem["type"] == "missing":
        return f"key {where!r} is missing and has no default"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{where}: {message}" if where else message
    for pydantics, ours in _PLAIN.items():
        message = message.replace(pydantics, ours)
    given = repr(problem["input"])
    return f"{where} = {given if len(given) <= 80 else given[:79] + '…'}: {message}"


def _nearest(schema: type[Settings], key: str) -> str:
    section, _, leaf = key.rpartition(".")
    everywhere: dict[str, str] = {}
    there: dict[str, str] = {}
    for name in _dotted_names(schema):
        parent, _, last = name.rpartition(".")
        everywhere.setdefault(last, name)
        if re.fullmatch(re.escape(parent).replace("<name>", ".+"), section):
            there[last] = f"{section}.{last}".lstrip(".")
    for names in (there, everywhere):  # then the right name in the wrong section, or a section left out
        for close in difflib.get_close_matches(leaf, names, n=1, cutoff=0.55):
            return f"did you mean {names[close]!r}?"
    return f"known keys there: {', '.join(there)}"


def _dotted_names(schema: type[BaseModel], prefix: str = "") -> Iterable[str]:
    for name, field in schema.model_fields.items():
        yield prefix + name
        named = "<name>." if get_origin(field.annotation) is dict else ""
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _dotted_names(inner, f"{prefix}{name}.{named}")
