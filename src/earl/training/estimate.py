"""What a step of training will take, before anything is loaded: memory of each device, and FLOPs.

Arithmetic on shapes; no weights are read. Sizes of weights, gradients, optimiser state and caches are
exact (a test compares the counts with real modules); activations are an estimate, and what torch
holds besides is an assumption. Each row says what it is.

Units: bytes of one device; FLOPs of one step on all devices, a multiply-add counted as 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from earl.config.stages import BaseRecipe, GrpoRecipe, SftRecipe
from earl.errors import ConfigError
from earl.models.shapes import EMU3_VISION_PARAMETERS, GIB, PolicyShape, image_tokens
from earl.training.blocks import positions_of_block
from earl.training.ranks import computes_in_bf16

PolicyRecipe = BaseRecipe | SftRecipe | GrpoRecipe
INSTRUCTION = 64  # ids of an instruction, a long one
REASONING = 600  # ids of a chain of thought, a long one (1,750 characters)
RUNTIME = 1.5 * GIB  # CUDA context, libraries' workspaces: an assumption
PREFILL = 8192  # tokens of prompts that go through the layers together, as the engine has it
DEFAULT_AREA = 256 * 256  # px²


@dataclass(frozen=True, slots=True)
class Lengths:
    """Ids of a prompt and of a completion, the long ones."""

    prompt: int
    completion: int


@dataclass
class Estimate:
    """What a recipe takes. `phases` holds, by phase of a step, what that phase needs on top of `always`."""

    parameters: int
    trained: int
    lengths: Lengths
    devices: int
    always: dict[str, float] = field(default_factory=dict)
    phases: dict[str, dict[str, float]] = field(default_factory=dict)
    flops: dict[str, float] = field(default_factory=dict)

    @property
    def peak(self) -> float:
        """Bytes of the phase that needs most."""
        return self.phase_peak(self.worst)

    @property
    def worst(self) -> str:
        return max(self.phases, key=self.phase_peak)

    def phase_peak(self, phase: str) -> float:
        """Bytes while a phase lasts; while loading there are neither gradients nor optimiser yet."""
        rest = RUNTIME if phase == "loading" else sum(self.always.values())
        return rest + sum(self.phases[phase].values())

    def check(self, memory: float) -> None:
        """Raises ConfigError with the reason where a device of `memory` bytes cannot hold it."""
        if self.peak <= memory:
            return
        rows = {**(self.always if self.worst != "loading" else {}), **self.phases[self.worst]}
        largest = sorted(rows, key=lambda name: -rows[name])[:3]
        parts = ", ".join(f"{name} {rows[name] / GIB:.1f}" for name in largest)
        raise ConfigError(
            f"a device of {memory / GIB:.1f} GiB cannot hold this run: {self.worst} needs "
            f"{self.peak / GIB:.1f} GiB ({parts}, …); use [lora] with precision.frozen = 'bf16', "
            "ranks.sharding = 'fsdp2' on more devices, precision.gradient_checkpointing, or a smaller "
            "batch.micro or rollouts.max_batch"
        )


def estimate(
    recipe: PolicyRecipe,
    shape: PolicyShape,
    *,
    devices: int = 1,
    device: str | None = None,
    codebook: int = 32_768,
    vision_parameters: int = EMU3_VISION_PARAMETERS,
) -> Estimate:
    """Count what one step takes.

    Args:
        shape: of the policy.
        devices: ranks, one device each.
        device: "cpu" or "cuda"; None takes the recipe's `run.device`, where "auto" counts as a GPU.
        codebook: visual ids, the columns of the head that meet visual positions.

    Raises:
        ConfigError: the batch does not divide over the devices.
    """
    _check_division(recipe, devices)
    lengths = lengths_of(recipe)
    lora = recipe.lora
    added = shape.lora_parameters(lora.rank, lora.targets) if lora else 0
    trained = added if lora else shape.parameters
    found = Estimate(shape.parameters + added, trained, lengths, devices)
    sharded = recipe.ranks.sharding == "fsdp2" and devices > 1
    cut = devices if sharded else 1
    frozen_width = 2 if recipe.precision.frozen == "bf16" else 4
    weights = shape.parameters * frozen_width + added * 4
    found.always = {
        "weights": weights / cut,
        "gradients": trained * 4 / cut,
        "optimiser state": _optimiser_bytes(recipe, shape, trained) / cut,
        "runtime (assumed)": RUNTIME,
    }
    if devices > 1 and not sharded:
        found.always["gradient buckets (DDP)"] = trained * 4
    if recipe.ema is not None:
        found.always["moving average"] = trained * 4 / cut
    if device is None:
        device = "cpu" if recipe.run.device == "cpu" else "cuda"
    half = computes_in_bf16(recipe.precision, torch.device(device))
    positions = positions_of_block(recipe.stage, device)
    training = _training_phase(recipe, shape, lengths, codebook, positions, sharded=sharded, half=half)
    found.phases["training"] = training
    if isinstance(recipe, GrpoRecipe):
        _add_rollouts(found, recipe, shape, codebook, vision_parameters, sharded=sharded, half=half)
    if sharded:  # each rank reads the whole before it is cut
        found.phases["loading"] = {"weights before they are cut": weights}
        if isinstance(recipe, GrpoRecipe) and lora is None and _refers(recipe):
            found.phases["loading"]["reference policy, copied"] = weights
    found.flops = _flops(recipe, shape, lengths, codebook)
    return found


def lengths_of(recipe: PolicyRecipe) -> Lengths:
    """Long sequences of this recipe: a square image of its area, a long instruction."""
    picture = image_tokens(recipe.model.area or DEFAULT_AREA)
    if isinstance(recipe, GrpoRecipe):
        reasoning = recipe.rollouts.max_text_tokens if recipe.rollouts.prefill == "reasoning" else 0
        return Lengths(picture + INSTRUCTION, picture + 1 + reasoning)
    reasoning = REASONING if recipe.data.reasoning else 0
    completion = picture + 1 + reasoning
    prompt = min(picture + INSTRUCTION, max(1, recipe.data.max_tokens - completion))
    return Lengths(prompt, min(completion, recipe.data.max_tokens))


def _check_division(recipe: PolicyRecipe, devices: int) -> None:
    if devices < 1:
        raise ConfigError(f"{devices} devices: give at least 1")
    together = recipe.batch.micro * devices
    if recipe.batch.sequences % together:
        raise ConfigError(
            f"batch.sequences = {recipe.batch.sequences} is not a multiple of batch.micro x devices = "
            f"{recipe.batch.micro} x {devices}; change one of them"
        )


def _optimiser_bytes(recipe: PolicyRecipe, shape: PolicyShape, trained: int) -> float:
    """AdamW keeps two float32 numbers a parameter, Muon one for the layers' matrices."""
    if recipe.optimiser.name == "muon" and recipe.lora is None:
        matrices = shape.layers * shape.layer_matrices
        return matrices * 4 + (trained - matrices) * 8
    return trained * 8


def _training_phase(
    recipe: PolicyRecipe,
    shape: PolicyShape,
    lengths: Lengths,
    codebook: int,
    positions: int,
    *,
    sharded: bool,
    half: bool,
) -> dict[str, float]:
    tokens, widest = _micro_tokens(recipe, lengths)
    narrow = half and (sharded or recipe.precision.frozen == "bf16")  # the residual stream's numbers
    stream, width = (2 if narrow else 4), (2 if half else 4)
    # Of one layer, kept for its backward pass: seven matrices' inputs and outputs, two norms in float32.
    keys = 2 * shape.kv_heads * shape.head_width
    inner = tokens * (width * (5 * shape.hidden + keys + 4 * shape.ffn) + 4 * 4 * shape.hidden)
    rows: dict[str, float]
    if recipe.precision.gradient_checkpointing:
        rows = {
            "activations (estimate)": shape.layers * tokens * shape.hidden * stream + inner,
        }
    else:
        rows = {"activations (estimate)": shape.layers * inner + tokens * shape.hidden * stream}
    one_row = recipe.precision.gradient_checkpointing or recipe.ranks.sharding != "none"
    if isinstance(recipe, GrpoRecipe) and recipe.grpo.share_prompt and one_row:
        per_group = recipe.batch.micro // recipe.rollouts.group
        rows["attention mask"] = per_group * widest**2 * width
    positions = min(positions, max(1, recipe.batch.micro * lengths.completion))
    held = 5 if isinstance(recipe, GrpoRecipe) else 2  # float32 at once; the entropy's gradient wants more
    rows[f"logits, {positions:,} positions at a time"] = positions * codebook * (4 * held + width)
    if recipe.lora is None:
        rows["head gradient"] = codebook * shape.hidden * 4
    if sharded:
        gathered = (
            2 * shape.layer_parameters if recipe.ranks.reshard else shape.layers * shape.layer_parameters
        )
        rows["gathered weights"] = (gathered + 2 * shape.table) * width
        rows["gathered gradients"] = (2 * shape.layer_parameters + 2 * shape.table) * width
    elif half and recipe.lora is None:
        rows["bf16 copies of weights (autocast)"] = shape.layers * shape.layer_matrices * 2
    return rows


def _micro_tokens(recipe: PolicyRecipe, lengths: Lengths) -> tuple[int, int]:
    """Tokens of a forward pass on one device, and of its longest row."""
    micro = recipe.batch.micro
    if isinstance(recipe, GrpoRecipe) and recipe.grpo.share_prompt:
        group = recipe.rollouts.group
        row = lengths.prompt + group * lengths.completion
        return micro // group * row, row
    row = lengths.prompt + lengths.completion
    shared = micro // recipe.batch.share
    return shared * lengths.prompt + micro * lengths.completion, row


def _add_rollouts(
    found: Estimate,
    recipe: GrpoRecipe,
    shape: PolicyShape,
    codebook: int,
    vision_parameters: int,
    *,
    sharded: bool,
    half: bool,
) -> None:
    """The phases that only reinforcement has: sampling, and the reference where it is a copy."""
    lengths, group = found.lengths, recipe.rollouts.group
    width = 2 if half else 4
    kind = "bfloat16" if half else "float32"
    found.always["vision tokenizer"] = vision_parameters * 4
    matrices = shape.layers * shape.layer_matrices
    copies = 0.0
    if recipe.lora is not None:  # adapters are merged into copies of the matrices that they touch
        targets = [shape.projections[name] for name in recipe.lora.targets]
        touched = shape.layers * sum(inputs * outputs for inputs, outputs in targets)
        same = (recipe.precision.frozen == "bf16") == half
        copies = (touched if same else matrices) * width
    elif half and not sharded:
        copies = matrices * width
    head = shape.table * width if half and recipe.precision.frozen != "bf16" and not sharded else 0
    found.always["sampler's copy of weights"] = copies + head
    at_once = min(recipe.rollouts.max_batch, recipe.batch.sequences // found.devices)
    at_once -= at_once % group if at_once >= group else 0
    prompts = -(-at_once // group)
    sampling = {
        "KV cache of completions": shape.cache_bytes(at_once * (lengths.completion + 2), kind),
        "KV cache of prompts": shape.cache_bytes(prompts * lengths.prompt, kind),
        "prefill (estimate)": min(PREFILL, prompts * lengths.prompt)
        * width
        * (4 * shape.hidden + 3 * shape.ffn),
        "sampling's logits": 6 * at_once * codebook * 4,
        "images decoded (estimate)": 6 * group * (recipe.model.area or DEFAULT_AREA) * 256 * 4,
    }
    if sharded:
        sampling["gathered weights"] = shape.parameters * width
    found.phases["sampling"] = sampling
    if recipe.lora is None and _refers(recipe):
        copy = shape.parameters * (2 if sharded and half else 4)
        if recipe.grpo.reference_device == "same":
            found.always["reference policy"] = copy
        tokens, _ = _micro_tokens(recipe, lengths)
        inner = tokens * width * (6 * shape.hidden + 4 * shape.ffn)
        found.phases["reference"] = {"activations (estimate)": inner}
        if recipe.grpo.reference_device == "cpu":
            found.phases["reference"]["reference policy, moved here"] = copy
        if sharded:  # held-out prompts are scored by both
            found.phases["reference"]["gathered weights"] = shape.parameters * width


def _refers(recipe: GrpoRecipe) -> bool:
    return recipe.grpo.kl_coefficient > 0 or recipe.stops.max_kl is not None


def _flops(recipe: PolicyRecipe, shape: PolicyShape, lengths: Lengths, codebook: int) -> dict[str, float]:
    """By phase: matrices, attention, and the head's visual columns."""
    sequences, prompt, completion = recipe.batch.sequences, lengths.prompt, lengths.completion
    matrices = shape.layers * shape.layer_matrices
    width = shape.heads * shape.head_width
    groups = sequences
    if isinstance(recipe, GrpoRecipe):
        groups = sequences // recipe.rollouts.group
    shared = groups if not isinstance(recipe, GrpoRecipe) or recipe.grpo.share_prompt else sequences
    shared = shared // recipe.batch.share

    def forward(prompts: int) -> float:
        """All tokens once: of so many prompts, of all completions; each query sees what is before it."""
        tokens = prompts * prompt + sequences * completion
        seen = prompts * prompt**2 / 2 + sequences * (prompt * completion + completion**2 / 2)
        return 2 * matrices * tokens + 4 * shape.layers * width * seen

    head = 2 * shape.hidden * codebook * sequences * completion
    # Backward: twice the forward (gradients of activations and of weights); without weights' gradients
    # once. Recomputed activations are one forward more; logits are made again in the backward pass.
    backward = 1 if recipe.lora is not None else 2
    again = 1 if recipe.precision.gradient_checkpointing else 0
    training = forward(shared) * (1 + backward + again) + head * (2 + backward)
    if not isinstance(recipe, GrpoRecipe):
        return {"training": training}
    found = {"sampling": forward(groups) + head}
    if _refers(recipe):
        found["reference"] = forward(shared) + head
    if recipe.grpo.updates > 1:
        found["old log-probabilities"] = forward(shared) + head
    found["training"] = training * recipe.grpo.updates
    return found
