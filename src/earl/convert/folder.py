"""Conversion to one folder: policy, tokenizer.json, vision tokenizer, earl.json, README.md.

The new folder is written beside its place, loaded again, and asked the same questions as the source
(`probe`); only when the answers agree does it take its place. Parts are held in memory one at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from earl import __version__
from earl.config.convert import ConversionSettings
from earl.convert.card import model_card
from earl.convert.probe import (
    adapted_products,
    largest_difference,
    probe_logits,
    probe_text,
    probe_vision,
    products,
    relative_difference,
)
from earl.errors import ModelFormatError, OutputError
from earl.files import check_writable, expand, new_folder
from earl.models.catalogue import KNOWN
from earl.models.resolve import ModelFolder, how_to_fetch, new_meta, resolve_model, split_revision
from earl.policy.adapters import merged
from earl.policy.loading import load_policy
from earl.policy.quantised import QuantisedLinear
from earl.policy.saving import save_policy, save_quantised
from earl.policy.stored import open_policy
from earl.records import PARTS, Part
from earl.sequence.tokenizer import TextTokenizer
from earl.vision.loading import load_vision_tokenizer, save_vision_tokenizer

# The same weights on the same machine: what is left is the order of sums in another memory layout.
TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 2e-3}
# Of merged adapters, relative: sums of weights are rounded to the dtype.
MERGED = {"float32": 1e-4, "bfloat16": 3e-2, "float16": 4e-3}
# Of quantised weights, relative: about twice what normally distributed ones show (0.9% and 8%).
PRODUCTS = {"int8": 0.02, "int4": 0.16}
Say = Callable[[str], None]


@dataclass
class Conversion:
    """A finished conversion: the folder, its earl.json, and the largest difference of each comparison."""

    folder: Path
    meta: dict[str, Any] = field(default_factory=dict)
    checks: dict[str, float] = field(default_factory=dict)


def convert_model(
    source: str | Path,
    target: str | Path,
    settings: ConversionSettings | None = None,
    *,
    force: bool = False,
    say: Say = lambda _: None,
    **fields: Any,
) -> Conversion:
    """Write `target` from a model of any known layout, and check it.

    Args:
        source: as `earl.models.resolve.resolve_model` takes it; a LoRA adapter is merged into its base.
        settings: what is written. With a temperature the new policy's logits are the source's divided by
            it (folded into the weights of the last norm).
        force: replace `target`, if it is a model folder of ours.
        say: told each part as it is done.
        fields: of `ConversionSettings`, in place of `settings`.

    Raises:
        ConfigError: settings that do not fit together.
        OutputError: `target` exists, or is the source itself.
        ModelNotFoundError, ModelFormatError, TokenizerError: a part is missing or damaged, or parts that do
            not belong together, or the new folder answers otherwise than its source.
        OutputError: the disk is full; `target` is as before.
    """
    settings = settings or ConversionSettings(**fields)
    target = check_target(Path(target), force)
    found = resolve_model(
        source, settings.revision, tokenizer=settings.tokenizer, vision=settings.vision, parts=settings.parts
    )
    here = target.resolve()
    parts = (found.policy_path, found.tokenizer_path, found.vision_path)
    for place in (found.path, *(path for path in parts if path is not None)):
        if place.exists() and (place.resolve() == here or here in place.resolve().parents):
            raise OutputError(f"{target} is where the source lies; give another folder")
    done = Conversion(target)
    places = {part: found.need(part) for part in settings.parts}
    with new_folder(target) as fresh:
        _write(fresh, done, found, places, settings, say)
        name, at = split_revision(str(source), settings.revision)
        _describe(fresh, done, name, at, found)
    return done


def check_target(target: Path, force: bool) -> Path:
    """The path, expanded, checked before any work.

    Raises:
        OutputError: it cannot be written, or exists and may not be replaced: without `force` nothing may,
            with it a model folder of ours or an empty one.
    """
    target = expand(target)
    if not target.exists():
        check_writable(target, folder=True)
        return target
    if not force:
        raise OutputError(f"{target} exists already; pass --force to replace it")
    if not (target / "earl.json").is_file() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError(f"{target} is no model folder of ours, and is not replaced; give another folder")
    check_writable(target.absolute().parent, folder=True)
    return target


def _write(
    into: Path,
    done: Conversion,
    found: ModelFolder,
    places: dict[Part, Path],
    settings: ConversionSettings,
    say: Say,
) -> None:
    vocabulary = rows = codebook = None
    if "tokenizer" in places:
        text = TextTokenizer.from_folder(places["tokenizer"])
        vocabulary = text.vocabulary
        text.save(into)
        again = TextTokenizer.from_folder(into)
        same = probe_text(text) == probe_text(again) and text.fingerprint() == again.fingerprint()
        done.meta["vocabulary"] = vocabulary.to_dict()
        _check(done, "text ids", 0.0 if same else float("inf"), 0.0)
        say(f"text tokenizer: {vocabulary.size:,} ids, the same before and after")
    if "vision" in places:
        vision_tokenizer = load_vision_tokenizer(places["vision"])
        area = found.meta.get("area") or vision_tokenizer.area
        codes, pixels = probe_vision(vision_tokenizer)
        codebook = vision_tokenizer.codebook_size
        rule = found.meta.get("size") or vision_tokenizer.rule
        save_vision_tokenizer(vision_tokenizer, into / "vision", area=int(area), rule=rule)
        again_codes, again_pixels = probe_vision(load_vision_tokenizer(into / "vision"))
        done.meta |= {"area": int(area), "size": rule}
        _check(done, "image codes", largest_difference(codes, again_codes), 0.0)
        _check(done, "decoded pixels", largest_difference(pixels, again_pixels), TOLERANCE["float32"])
        say(f"vision tokenizer: codes equal, pixels differ by {done.checks['decoded pixels']:g} at most")
    if "policy" in places:
        rows = _write_policy(into / "policy", done, places["policy"], settings, say)
        done.meta["temperature"] = settings.temperature * float(found.meta.get("temperature", 1.0))
    if vocabulary is not None and rows is not None and rows < vocabulary.size:
        raise ModelFormatError(f"the policy has {rows} ids, the text tokenizer {vocabulary.size}; {_APART}")
    if vocabulary is not None and codebook is not None and codebook != vocabulary.codebook_size:
        raise ModelFormatError(
            f"the vision tokenizer has {codebook} codes, the text tokenizer {vocabulary.codebook_size} "
            f"visual tokens; {_APART}"
        )


_APART = "they do not belong together"


def _write_policy(into: Path, done: Conversion, source: Path, settings: ConversionSettings, say: Say) -> int:
    policy: Any = load_policy(source, dtype=settings.dtype)
    temperature = settings.temperature
    kind = str(policy.dtype).removeprefix("torch.")
    if hasattr(policy, "peft_config"):
        policy = _merge(policy, done, MERGED[kind], say)
    logits, rows = probe_logits(policy) / temperature, int(policy.config.vocab_size)
    done.meta["parameters"] = sum(parameter.numel() for parameter in policy.parameters())
    done.meta["dtype"] = kind
    most = TOLERANCE[kind]
    if temperature != 1:
        most = most / min(temperature, 1.0) + torch.finfo(policy.dtype).eps * float(logits.abs().max())
        with torch.no_grad():
            policy.model.norm.weight.div_(temperature)
    if settings.quantize is not None:
        save_quantised(policy, into, settings.quantize)
        done.meta["dtype"] = settings.quantize
        _compare_quantised(done, policy, into)
        say(
            f"policy: {done.meta['parameters']:,} parameters, matrices of the layers in {settings.quantize}; "
            f"their products differ by {done.checks['products of matrices, relative']:.1%} at most"
        )
        return rows
    save_policy(policy, into)
    del policy  # the next one of 8.5 billion parameters needs the room
    difference = largest_difference(logits, probe_logits(load_policy(into)))
    _check(done, "logits", difference, most)
    say(f"policy: {done.meta['parameters']:,} parameters in {kind}, logits differ by {difference:g} at most")
    return rows


def _merge(policy: Any, done: Conversion, most: float, say: Say) -> Any:
    """The policy with its adapter merged; each matrix is held to its products with the adapter beside it."""
    before = adapted_products(policy)
    policy = merged(policy).eval()
    after = {
        name: products(policy.get_submodule(name), policy.get_submodule(name).in_features) for name in before
    }
    what = "products of merged matrices, relative"
    apart = max((relative_difference(before[name], after[name]) for name in before), default=0.0)
    _check(done, what, apart, most)
    say(f"adapter: merged; products of {len(before)} matrices differ by {apart:.1%} at most")
    return policy


def _compare_quantised(done: Conversion, policy: Any, folder: Path) -> None:
    """Compare the written model with its source: each matrix by its products, the rest bit for bit."""
    written = open_policy(folder)
    kept = written.state_dict()
    own = {name: t for name, t in policy.state_dict().items() if t.dtype == kept[name].dtype}
    same = all(torch.equal(kept[name], tensor) for name, tensor in own.items())
    _check(done, "unquantised weights", 0.0 if same else float("inf"), 0.0)
    layers = [(name, layer) for name, layer in written.named_modules() if isinstance(layer, QuantisedLinear)]
    if not layers:
        raise ModelFormatError(f"no matrix of this policy is of a shape that {done.meta['dtype']} can hold")
    errors = []
    for name, layer in layers:
        plain = policy.get_submodule(name)
        errors.append(
            relative_difference(*(products(matrix, plain.in_features) for matrix in (plain, layer)))
        )
    _check(done, "products of matrices, relative", max(errors), PRODUCTS[done.meta["dtype"]])


def _check(done: Conversion, what: str, difference: float, most: float) -> None:
    done.checks[what] = difference
    if not difference <= most:
        raise ModelFormatError(
            f"the converted model's {what} differ from its source's by {difference:g}, at most {most:g} is "
            "taken; nothing was written"
        )


def _describe(into: Path, done: Conversion, name: str, revision: str | None, found: ModelFolder) -> None:
    known = KNOWN.get(name)
    folder = found.policy_path or found.vision_path or found.tokenizer_path
    hint = how_to_fetch(folder / "x") if folder else ""
    commit = hint.rpartition("--revision ")[2].rstrip("`") if "--revision" in hint else None
    local = Path(name).expanduser().is_dir()
    origin = {"earl": __version__, "source": Path(name).resolve().name if local else name}
    if revision or commit:
        origin["revision"] = revision or commit or ""
    names = {"tokenizer": "tokenizer.json"}
    done.meta = new_meta(
        parts=[part for part in PARTS if (into / names.get(part, part)).exists()],
        **done.meta,
        origin=origin,
        licence=found.meta.get("licence") or (known.licence if known else None),
        reasoning=found.reasons,
        steps=found.meta.get("steps"),
    )
    (into / "earl.json").write_text(json.dumps(done.meta, indent=1) + "\n", encoding="utf-8")
    (into / "README.md").write_text(model_card(done.meta, done.checks), encoding="utf-8")
