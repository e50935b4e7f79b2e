"""Dry runs: the resolved recipe, its names, what a step takes, and whether that fits; nothing is loaded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from earl.config.grpo import cut_warning
from earl.config.recipe import recipe_toml
from earl.config.stages import DryRunSettings

if TYPE_CHECKING:
    from earl.models.shapes import PolicyShape
    from earl.training.estimate import Estimate

GIB = 2**30


def dry_run(recipe: Any, settings: DryRunSettings) -> Iterator[str]:
    """Lines about the recipe and what it takes.

    Raises:
        ConfigError: it cannot fit (after the lines that say why), or a name in it stands for nothing.
    """
    yield recipe_toml(recipe)
    from earl.training.names import check_names

    check_names(recipe)
    memory, devices, where, kind = _place(recipe, settings)
    if recipe.stage == "tokenizer":
        yield from _tokenizer(recipe, memory, where)
        return
    from earl.training.estimate import estimate

    shape, codebook, vision, notes = _shape(recipe.model, settings.size)
    found = estimate(recipe, shape, devices=devices, device=kind, codebook=codebook, vision_parameters=vision)
    yield from (*notes, *_report(found))
    if recipe.stage == "grpo" and (warning := cut_warning(recipe.grpo, recipe.rollouts, codebook)):
        yield f"warning: {warning}"
    found.check(memory)
    yield f"fits: {found.peak / GIB:.1f} of {memory / GIB:.1f} GiB on each of {devices} x {where}"


def bytes_of(size: str) -> float:
    """Bytes of "80GiB" or "141GB"."""
    found = re.fullmatch(r"([\d.]+)\s*([KMGT])(i?)B", size)
    assert found is not None, "the settings check the form"
    return float(found[1]) * float(1024 if found[3] else 1000) ** " KMGT".index(found[2])


def _place(recipe: Any, settings: DryRunSettings) -> tuple[float, int, str, str]:
    """(bytes of a device, devices, its name, "cpu" or "cuda"): as asked, else the local GPUs, else this
    machine's memory. A memory that is given is a GPU's, where the recipe does not say `cpu`."""
    kind = "cpu" if recipe.run.device == "cpu" else "cuda"
    if settings.memory is not None:
        memory = bytes_of(settings.memory)
        return memory, settings.devices or 1, f"{memory / GIB:.0f} GiB", kind
    import torch

    if torch.cuda.is_available() and kind == "cuda":
        count = settings.devices or torch.cuda.device_count()
        name = torch.cuda.get_device_name(0)
        return float(torch.cuda.get_device_properties(0).total_memory), count, name, kind
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    count = settings.devices or 1
    where = "this machine's memory" + (" (no GPU here)" if kind == "cuda" else "")
    return total / count, count, where, "cpu"


def _shape(model: Any, size: str | None) -> tuple[PolicyShape, int, int, list[str]]:
    """(shape, visual ids, parameters of the vision tokenizer, what was assumed); loads nothing."""
    from earl.models.catalogue import KNOWN
    from earl.models.resolve import SHIPPED, is_folder, resolve_model, split_revision
    from earl.models.shapes import EMU3, EMU3_VISION_PARAMETERS, PolicyShape
    from earl.policy.configs import read_fields

    name = split_revision(str(model.start))[0] if model.start is not None else None
    if name is not None and size is None and (name == SHIPPED or is_folder(name)):
        found = resolve_model(name, parts=("policy",))
        folder = found.need("policy")
        shape = PolicyShape.from_config({**read_fields(folder)[1], "model_type": "Emu3"})
        codebook = int(found.meta.get("vocabulary", {}).get("codebook_size", min(32_768, shape.vocab_size)))
        files = found.vision_path.glob("*.safetensors") if found.vision_path else []
        vision = sum(file.stat().st_size for file in files) // 4 or EMU3_VISION_PARAMETERS
        return shape, codebook, vision, [f"policy: {model.start}"]
    if size in (None, "8b") and name is not None:
        note = f"policy: {model.start}"
        if name not in KNOWN:
            note += " is not on this machine: counted as the 8.5 B model (--size names another)"
        return EMU3, 32_768, EMU3_VISION_PARAMETERS, [note]
    return _from_scratch(model, size or model.size)


def _from_scratch(model: Any, size: str) -> tuple[PolicyShape, int, int, list[str]]:
    from earl.models.resolve import is_folder, resolve_model
    from earl.policy.configs import make_config
    from earl.sequence.tokenizer import TextTokenizer
    from earl.sequence.vocabulary import Vocabulary

    home, vocabulary = model.text_tokenizer, Vocabulary.released()
    note = f"policy: size {size}, Emu3's vocabulary assumed"
    if home is not None and is_folder(home):
        folder = resolve_model(home, parts=("tokenizer",)).need("tokenizer")
        vocabulary = TextTokenizer.from_folder(folder).vocabulary
        note = f"policy: size {size}, {vocabulary.size:,} ids"
    from earl.models.shapes import EMU3_VISION_PARAMETERS, PolicyShape

    shape = PolicyShape.from_config(make_config(size, vocabulary).to_dict())
    return shape, vocabulary.codebook_size, EMU3_VISION_PARAMETERS, [note]


def _report(found: Estimate) -> list[str]:
    lines = [
        f"parameters: {found.parameters:,} in all, {found.trained:,} trained",
        f"long sequences: prompt of {found.lengths.prompt:,} ids, completion of {found.lengths.completion:,}",
        f"memory of each device, GiB, computed ({found.devices} device{'s' * (found.devices > 1)}):",
    ]
    lines += [f"  {size / GIB:8.2f}  {name}" for name, size in found.always.items()]
    for phase, rows in found.phases.items():
        lines += [f"  {size / GIB:8.2f}  {phase}: {name}" for name, size in rows.items()]
        lines.append(f"  {found.phase_peak(phase) / GIB:8.2f}  = all of it while {phase}")
    total = sum(found.flops.values())
    parts = ", ".join(f"{name} {value / 1e15:.3g}" for name, value in found.flops.items())
    lines.append(f"one step: {total / 1e15:.3g} PFLOP ({parts}), all devices together")
    return lines


def _tokenizer(recipe: Any, memory: float, where: str) -> Iterator[str]:
    import torch

    from earl.errors import ConfigError
    from earl.vision.creating import create_vision_tokenizer

    if recipe.model.start is not None:
        raise ConfigError(
            "--dry-run computes the memory of a new tokenizer only, and this recipe starts from one that "
            f"exists (model.start = {recipe.model.start}); train without --dry-run, or check the recipe with "
            "--show"
        )
    with torch.device("meta"):  # counted, not allocated
        model = create_vision_tokenizer(0, **recipe.model.widths())
    count = sum(parameter.numel() for parameter in model.parameters())
    needed = 16.0 * count
    yield f"parameters: {count:,}"
    yield f"weights, gradients, optimiser state: {needed / GIB:.2f} GiB; activations are not estimated"
    if needed > memory:
        raise ConfigError(f"{where} has {memory / GIB:.1f} GiB, this needs more than {needed / GIB:.1f} GiB")
