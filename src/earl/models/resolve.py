"""Resolution of a model's name to the folders of its policy, text tokenizer and vision tokenizer.

A model is named by the word "world" (shipped in the package), by a folder, or by a hub id
"owner/name" or "owner/name@revision". This module only finds folders and looks at their `config.json`;
reading weights belongs to `earl.policy` and `earl.vision`. Nothing is downloaded unless the user named
a hub id, or a policy in Emu3's vocabulary that came without its tokenizers: those have known homes
(`earl.models.catalogue`). Code and pickles are never downloaded.

Folders that are understood:
    ours       earl.json, policy/ or adapter/, vision/, tokenizer.json (any of them may be absent)
    a policy   config.json with model_type "Emu3" (released) or "emu3_text_model" (transformers)
    policy and vision tokenizer in one   model_type "emu3" (transformers, the -hf repositories)
    a vision tokenizer   config.json with model_type "Emu3VisionVQ" or "emu3_vqgan"
    an adapter adapter_config.json (LoRA); its other parts come from the base model that it names
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from earl.errors import ConfigError, ModelFormatError, ModelNotFoundError
from earl.files import read_object
from earl.models.catalogue import KNOWN, TEXT_HOME, VISION_HOME
from earl.models.shapes import EMU3
from earl.records import PARTS, Part
from earl.registry import MODELS

SHIPPED = "world"
FORMAT_VERSION = 1
POLICY_TYPES = ("Emu3", "emu3_text_model", "emu3")
VISION_TYPES = ("Emu3VisionVQ", "emu3_vqgan")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_AT_REVISION = re.compile(r"([A-Za-z0-9][\w.-]*/[\w.-]+)@([\w./-]+)")
_TOKENIZER_FILES = ("tokenizer.json", "emu3.tiktoken")
_WHERE_TO_GET = {
    "policy": "name a folder or hub id that holds one, e.g. mair-lab/sft-simple",
    "tokenizer": "name one by --tokenizer; the released models use that of BAAI/Emu3-Stage1",
    "vision": "name one by --vision; the released models use BAAI/Emu3-VisionTokenizer",
}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The folders of one model's parts; None where the model has no such part.

    `meta` is the content of `earl.json` ({} for a model that is not ours): format version, area in
    px², vocabulary, origin, licence, scores. `need` gives a part's folder or says what to fetch.
    """

    path: Path
    policy_path: Path | None = None
    tokenizer_path: Path | None = None
    vision_path: Path | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def reasons(self) -> bool | None:
        """Whether the policy was taught a chain of thought; None where that is not known."""
        if self.name in KNOWN:
            return KNOWN[self.name].reasons
        return bool(self.meta.get("reasoning")) if self.meta else None

    def need(self, part: Part) -> Path:
        """The folder of a part. Raises ModelNotFoundError where the model lacks it."""
        found: Path | None = getattr(self, f"{part}_path")
        if found is None:
            what = {"policy": "policy", "tokenizer": "text tokenizer", "vision": "vision tokenizer"}[part]
            whole = self.path.parent
            where = f"it is a part of {whole}" if (whole / "earl.json").is_file() else _WHERE_TO_GET[part]
            raise ModelNotFoundError(f"{self.name or self.path} has no {what}; {where}")
        return found


def resolve_model(
    name_or_folder: str | Path,
    revision: str | None = None,
    *,
    tokenizer: str | Path | None = None,
    vision: str | Path | None = None,
    parts: Sequence[Part] = PARTS,
) -> ModelFolder:
    """Find a model's parts on disk, downloading only what is named and what belongs to it.

    Args:
        name_or_folder: "world", a folder, or a hub id "owner/name", "owner/name@revision".
        revision: branch, tag or commit; for hub ids only.
        tokenizer: another model to take the text tokenizer from.
        vision: another model to take the vision tokenizer from.
        parts: what is wanted; a hub id asked for "tokenizer" alone is fetched without its weights.

    Raises:
        ModelNotFoundError: nothing by that name here, or the hub cannot be reached.
        ModelFormatError: a folder that is no Emu3 model, or an unreadable JSON file in it.
        ConfigError: two revisions that disagree, or one of a folder.
    """
    name, revision = split_revision(str(name_or_folder), revision)
    known = None if is_folder(name) else KNOWN.get(name)
    if known is not None:
        revision = revision or known.revision
    given = {"tokenizer": tokenizer, "vision": vision}
    homes: dict[str, str | Path] = {part: other for part, other in given.items() if other is not None}
    if known is not None:
        for part in parts:
            home = known.home(part)
            if home not in (None, name):
                homes.setdefault(part, str(home))
    own = [part for part in parts if part not in homes]
    if known is not None and not own:  # nothing of it is wanted: 17 GB stay where they are
        found = ModelFolder(Path(name), name=name)
    else:
        found = _describe(_locate(name, revision, own), name, own)
    for lacking, other in homes.items():
        found = _take(found, lacking, other)
    return found if known is not None else _with_known_homes(found, parts)


def split_revision(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """ "owner/name@revision" cut in two; any other name as it is.

    Raises:
        ConfigError: another revision was given besides.
    """
    match = _AT_REVISION.fullmatch(name)
    if match is None or Path(name).exists():
        return name, revision
    if revision not in (None, match[2]):
        raise ConfigError(f"{name} names a revision, and revision {revision!r} was given too; leave one out")
    return match[1], match[2]


def _take(found: ModelFolder, part: str, other: str | Path) -> ModelFolder:
    wanted: Part = "tokenizer" if part == "tokenizer" else "vision"
    lent = resolve_model(other, parts=(wanted,)).need(wanted)
    return replace(found, tokenizer_path=lent) if part == "tokenizer" else replace(found, vision_path=lent)


def _with_known_homes(found: ModelFolder, parts: Sequence[Part]) -> ModelFolder:
    """A policy in Emu3's own vocabulary uses Emu3's tokenizers, where it has none of its own."""
    lacking = [part for part in parts if part != "policy" and getattr(found, f"{part}_path") is None]
    config = found.policy_path / "config.json" if found.policy_path else None
    if not lacking or found.meta or config is None or not config.is_file():
        return found
    if read_json(config).get("vocab_size") != EMU3.vocab_size:
        return found
    for part in lacking:
        with suppress(ModelNotFoundError):  # it stays absent; `need` says what to fetch
            found = _take(found, part, TEXT_HOME if part == "tokenizer" else VISION_HOME)
    return found


def is_folder(name: str | Path) -> bool:
    """Whether a folder of this name is there, `~` expanded; a name that no file system takes is none."""
    try:
        return Path(name).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):
        return False


def new_meta(**facts: Any) -> dict[str, Any]:
    """The `earl.json` of a model that is written; what is None, False or a temperature of 1 is left out."""
    told = {name: value for name, value in facts.items() if value is not None and value is not False}
    if told.get("temperature") == 1:
        del told["temperature"]
    return {"format": FORMAT_VERSION, **told}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ModelFormatError in one sentence where it is not one."""
    return read_object(path, error=ModelFormatError)


def read_nested(raw: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """An object inside a JSON object, {} where it is absent; ModelFormatError where it is something else."""
    inner = raw.get(name)
    if inner is not None and not isinstance(inner, dict):
        raise ModelFormatError(f"{path}: {name} is a JSON {type(inner).__name__}, expected an object")
    return inner or {}


def _locate(name: str, revision: str | None, parts: Sequence[Part]) -> Path:
    if not name.strip():
        raise ModelNotFoundError("the model's name is empty; give 'world', a folder, or a hub id owner/name")
    if revision is not None and (name in MODELS or is_folder(name)):
        raise ConfigError(f"revision {revision!r} is of a hub id, and {name} is here; leave it out")
    if name in MODELS:
        folder = Path(MODELS.load(name))
        if not (folder / "earl.json").is_file():
            raise ModelNotFoundError(f"the model {name!r} is missing from {folder}; reinstall its package")
        return folder
    if is_folder(name):
        return Path(name).expanduser()
    if os.path.exists(name):
        raise ModelNotFoundError(f"{name} is a file; give the folder that holds config.json and the weights")
    if _HUB_ID.fullmatch(name):
        return _fetch(name, revision, parts)
    raise ModelNotFoundError(
        f"no model '{name}': not a folder here, not a hub id owner/name; the shipped model is 'world'"
    )


def _fetch(name: str, revision: str | None, parts: Sequence[Part]) -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "*.tiktoken", "*.txt"]
    if "policy" in parts or "vision" in parts:
        patterns.append("*.safetensors")
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # any failure here means one thing for the user; the cause stays chained
        at = f" at revision {revision}" if revision else ""
        command = f"hf download {name}" + (f" --revision {revision}" if revision else "")
        why = f"could not be fetched from the Hugging Face hub ({type(error).__name__})"
        raise ModelNotFoundError(
            f"{name}{at} is no folder here, is not in the cache, and {why}; check the name and the "
            f"connection, or run `{command}` where there is one and give the folder that it prints"
        ) from error


def how_to_fetch(path: Path) -> str:
    """Advice about a file that is missing from a model's folder, as the end of a sentence."""
    for folder in path.parents:
        repository = folder.parent.parent.name
        if folder.parent.name == "snapshots" and repository.startswith("models--"):
            name = repository.removeprefix("models--").replace("--", "/")
            return (
                f"fetch it with a connection: `hf download {name} {path.relative_to(folder)} "
                f"--revision {folder.name}`"
            )
    return "fetch it into that folder"


def _describe(folder: Path, name: str, parts: Sequence[Part]) -> ModelFolder:
    if (folder / "earl.json").is_file():
        return _describe_ours(folder, name, parts)
    if (folder / "adapter_config.json").is_file():
        return replace(resolve_base(folder, parts), path=folder, policy_path=folder, name=name)
    tokenizer = folder if any((folder / file).is_file() for file in _TOKENIZER_FILES) else None
    if not (folder / "config.json").is_file():
        if tokenizer is not None:
            return ModelFolder(folder, tokenizer_path=folder, name=name)
        hint = how_to_fetch(folder / "config.json")
        inside = f"; a run's model is in {folder / 'model'}" if (folder / "model").is_dir() else ""
        raise ModelNotFoundError(
            f"{folder} is no model folder: it has no earl.json, config.json, adapter_config.json or tokenizer"
            + (f"; {hint}" if "hf download" in hint else inside)
        )
    model_type = read_json(folder / "config.json").get("model_type")
    if model_type in VISION_TYPES:
        return ModelFolder(folder, vision_path=folder, name=name)
    if model_type in POLICY_TYPES:
        vision = folder if model_type == "emu3" else None
        return ModelFolder(
            folder, policy_path=folder, tokenizer_path=tokenizer, vision_path=vision, name=name
        )
    raise ModelFormatError(
        f"{folder} holds a model of type '{model_type}', expected one of "
        f"{', '.join((*POLICY_TYPES, *VISION_TYPES))}"
    )


def _describe_ours(folder: Path, name: str, parts: Sequence[Part]) -> ModelFolder:
    meta = read_json(folder / "earl.json")
    version = meta.get("format", meta.get("format_version", FORMAT_VERSION))
    if not isinstance(version, int) or not 0 <= version <= FORMAT_VERSION:
        raise ModelFormatError(
            f"{folder / 'earl.json'} is of format {version}, "
            f"this version reads up to {FORMAT_VERSION}; upgrade earl"
        )
    _check_meta(meta, folder / "earl.json")
    policy, vision = folder / "policy", folder / "vision"
    found = ModelFolder(
        folder,
        policy_path=policy if policy.is_dir() else None,
        tokenizer_path=folder if any((folder / file).is_file() for file in _TOKENIZER_FILES) else None,
        vision_path=vision if vision.is_dir() else None,
        meta=meta,
        name=name,
    )
    adapter = _adapter_in(folder)
    if adapter is None:
        return found
    lacking = [part for part in parts if part != "policy" and getattr(found, f"{part}_path") is None]
    found = replace(found, policy_path=adapter)
    if not lacking and "policy" not in parts:
        return found
    base = resolve_base(adapter, lacking)
    return replace(
        found,
        tokenizer_path=found.tokenizer_path or base.tokenizer_path,
        vision_path=found.vision_path or base.vision_path,
    )


def _check_meta(meta: Mapping[str, Any], path: Path) -> None:
    """Raises ModelFormatError: a value of `earl.json` has the wrong type or lies outside its range."""
    area, temperature = meta.get("area", 64), meta.get("temperature", 1.0)
    if isinstance(area, bool) or not isinstance(area, int) or not 64 <= area <= 2**28:
        raise ModelFormatError(f"{path}: area is {str(area)[:80]!r}, expected pixels² from 64")
    if not isinstance(temperature, (int, float)) or not 1e-6 < temperature < 1e6:
        raise ModelFormatError(f"{path}: temperature is {str(temperature)[:80]!r}, expected a number above 0")
    for name, kind in (("vocabulary", dict), ("parts", list), ("licence", str), ("steps", str)):
        if not isinstance(meta.get(name, kind()), kind):
            raise ModelFormatError(
                f"{path}: {name} is a JSON {type(meta[name]).__name__}; write the file anew"
            )
    for name, value in meta.get("vocabulary", {}).items():
        if not isinstance(value, int):
            raise ModelFormatError(
                f"{path}: vocabulary.{name} is {str(value)[:80]!r}, expected a whole number"
            )


def _adapter_in(folder: Path) -> Path | None:
    """The adapter's folder, where a folder has an adapter in a policy's place; None elsewhere."""
    if not (folder / "earl.json").is_file():
        return folder if (folder / "adapter_config.json").is_file() else None
    adapter = folder / "adapter"
    there = (adapter / "adapter_config.json").is_file() and not (folder / "policy").is_dir()
    return adapter if there else None


def adapter_base(folder: Path) -> str:
    """The model that a LoRA adapter folder was trained on: a name, or a folder relative to it."""
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelFormatError(
            f"{folder / 'adapter_config.json'} names no base model; set base_model_name_or_path"
        )
    beside = folder / base
    return str(beside) if not Path(base).is_absolute() and base != SHIPPED and beside.is_dir() else base


def resolve_base(adapter: Path, parts: Sequence[Part]) -> ModelFolder:
    """The model that an adapter was trained on, which may have an adapter of its own.

    Raises:
        ModelNotFoundError: it is not where the adapter says.
        ModelFormatError: the adapter names itself, or adapters name each other in a circle.
    """
    base, seen = adapter_base(adapter), list[Path]()
    below: Path | None = adapter
    while below is not None:
        if below.resolve() in seen:
            how = "itself" if len(seen) == 1 else "one that names it in turn"
            raise ModelFormatError(
                f"the adapter in {adapter} names {how} as its base model; set base_model_name_or_path in "
                "adapter_config.json to the model that it was trained on"
            )
        seen.append(below.resolve())
        under = adapter_base(below)
        below = None if under == SHIPPED else _adapter_in(Path(under).expanduser())
    try:
        return resolve_model(base, parts=parts)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"the adapter in {adapter} was trained on '{base}', which is missing: {error}; "
            f"put it there, or set base_model_name_or_path in {adapter / 'adapter_config.json'}"
        ) from error
