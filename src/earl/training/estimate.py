"""Memory of each device and FLOPs of a training step, computed before anything is loaded.

Arithmetic on shapes; no weights are read. Sizes of weights, gradients, optimiser state and caches are
exact (a test compares the counts with real modules); activations are an estimate, and what torch
holds besides is an assumption. Each row says what it is.

Units: bytes of one device; FLOPs of one step on all devices, a multiply-add counted as 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from earl.config.stages import DpoRecipe, GrpoRecipe, PolicyRecipe, SftRecipe
from earl.errors import ConfigError
from earl.models.shapes import EMU3_VISION_PARAMETERS, GIB, PolicyShape, image_tokens
from earl.training.objective import positions_of_block
from earl.training.ranks import computes_in_bf16

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
    """Memory and FLOPs of a recipe. `phases` holds what each phase of a step needs on top of `always`."""

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
            "batch.micro_size or rollouts.max_batch"
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
    if devices < 1:
        raise ConfigError(f"{devices} devices: give at least 1")
    recipe.batch.check_ranks(devices)
    lengths = lengths_of(recipe)
    lora = recipe.lora
    added = shape.lora_parameters(lora.rank, lora.targets) if lora else 0
    trained = added if lora else shape.parameters
    found = Estimate(shape.parameters + added, trained, lengths, devices)
    if device is None:
        device = "cpu" if recipe.run.device == "cpu" else "cuda"
    half = computes_in_bf16(recipe.precision, torch.device(device))
    sharded = recipe.ranks.sharding == "fsdp2" and devices > 1
    count = _Counter(recipe, shape, lengths, codebook, devices, sharded=sharded, half=half)
    parts = devices if sharded else 1
    weights = shape.parameters * (2 if recipe.precision.frozen == "bf16" else 4) + added * 4
    found.always = {
        "weights": weights / parts,
        "gradients": trained * 4 / parts,
        "optimiser state": count.optimiser_bytes(trained) / parts,
        "runtime (assumed)": RUNTIME,
    }
    if devices > 1 and not sharded:
        found.always["gradient buckets (DDP)"] = trained * 4
    if recipe.ema is not None:
        found.always["moving average"] = trained * 4 / parts
    found.phases["training"] = count.training_phase(positions_of_block(recipe.stage, device))
    if isinstance(recipe, GrpoRecipe):
        found.always["vision tokenizer"] = vision_parameters * 4
        count.add_rollouts(found, recipe)
    if lora is None and _refers(recipe):
        count.add_reference(found)
    if sharded:  # each rank reads all weights before they are sharded
        found.phases["loading"] = {"weights before they are sharded": weights}
        if lora is None and _refers(recipe):
            found.phases["loading"]["reference policy, copied"] = weights
    found.flops = count.flops()
    return found


def lengths_of(recipe: PolicyRecipe) -> Lengths:
    """Long sequences of this recipe: a square image of its area, a long instruction."""
    image = image_tokens(recipe.model.area or DEFAULT_AREA)
    if isinstance(recipe, GrpoRecipe):
        reasoning = recipe.rollouts.max_text_tokens if recipe.rollouts.prefill == "reasoning" else 0
        return Lengths(image + INSTRUCTION, image + 1 + reasoning)
    assert isinstance(recipe, (SftRecipe, DpoRecipe))
    reasoning = REASONING if isinstance(recipe, SftRecipe) and recipe.data.reasoning else 0
    completion = image + 1 + reasoning
    prompt = min(image + INSTRUCTION, max(1, recipe.data.max_tokens - completion))
    return Lengths(prompt, min(completion, recipe.data.max_tokens))


@dataclass(frozen=True)
class _Counter:
    """The counts of one recipe, shape and number of devices."""

    recipe: PolicyRecipe
    shape: PolicyShape
    lengths: Lengths
    codebook: int
    devices: int
    sharded: bool
    half: bool

    def optimiser_bytes(self, trained: int) -> float:
        """AdamW keeps two float32 numbers a parameter, Muon one for the layers' matrices."""
        recipe, shape = self.recipe, self.shape
        if recipe.optimiser.name == "muon" and recipe.lora is None:
            matrices = shape.num_hidden_layers * shape.layer_matrices
            return matrices * 4 + (trained - matrices) * 8
        return trained * 8

    def training_phase(self, positions: int) -> dict[str, float]:
        recipe, shape, lengths, codebook = self.recipe, self.shape, self.lengths, self.codebook
        sharded, half = self.sharded, self.half
        tokens, widest = self._micro_tokens()
        narrow = half and (sharded or recipe.precision.frozen == "bf16")  # the residual stream's numbers
        stream, width = (2 if narrow else 4), (2 if half else 4)
        # Of one layer, kept for its backward pass: seven matrices' inputs and outputs, two norms in float32.
        keys = 2 * shape.num_key_value_heads * shape.head_width
        inner = tokens * (
            width * (5 * shape.hidden_size + keys + 4 * shape.intermediate_size) + 4 * 4 * shape.hidden_size
        )
        if recipe.precision.gradient_checkpointing:
            kept = shape.num_hidden_layers * tokens * shape.hidden_size * stream + inner
        else:
            kept = shape.num_hidden_layers * inner + tokens * shape.hidden_size * stream
        rows: dict[str, float] = {"activations (estimate)": kept}
        prompts, sequences = _counts(recipe, recipe.batch.micro_size)
        if not isinstance(recipe, SftRecipe) and recipe.one_pass:
            rows["attention mask"] = prompts * widest**2 * width
        positions = min(positions, max(1, sequences * lengths.completion))
        # Two of float32 at once, and one of the width that is computed in.
        rows[f"logits, {positions:,} positions at a time"] = positions * codebook * (2 * 4 + width)
        if recipe.lora is None:
            rows["head gradient"] = codebook * shape.hidden_size * 4
        if sharded:
            two_layers = (2 * shape.layer_parameters + 2 * shape.table) * width
            rows["unsharded weights"] = rows["unsharded gradients"] = two_layers
        elif half and recipe.lora is None:
            rows["bf16 copies of weights (autocast)"] = shape.num_hidden_layers * shape.layer_matrices * 2
        return rows

    def _micro_tokens(self) -> tuple[int, int]:
        """Tokens of a forward pass on one device, and of its longest row."""
        lengths, share = self.lengths, self.recipe.batch.share
        prompts, sequences = _counts(self.recipe, self.recipe.batch.micro_size)
        row = lengths.prompt + sequences // prompts * lengths.completion
        return prompts // share * lengths.prompt + sequences * lengths.completion, row

    def add_rollouts(self, found: Estimate, recipe: GrpoRecipe) -> None:
        """The phases that only reinforcement has: sampling, and the reference where it is a copy."""
        shape, lengths, codebook, group = self.shape, self.lengths, self.codebook, recipe.rollouts.group
        sharded, half = self.sharded, self.half
        width = 2 if half else 4
        kind = "bfloat16" if half else "float32"
        matrices = shape.num_hidden_layers * shape.layer_matrices
        copies = 0.0
        if recipe.lora is not None:  # adapters are merged into copies of the matrices that they touch
            targets = [shape.projections[name] for name in recipe.lora.targets]
            touched = shape.num_hidden_layers * sum(inputs * outputs for inputs, outputs in targets)
            same = (recipe.precision.frozen == "bf16") == half
            copies = (touched if same else matrices) * width
        elif half and not sharded:
            copies = matrices * width
        head = shape.table * width if half and recipe.precision.frozen != "bf16" and not sharded else 0
        found.always["sampler's copy of weights"] = copies + head
        at_once = min(recipe.rollouts.max_batch, recipe.batch.global_size // self.devices)
        at_once -= at_once % group if at_once >= group else 0
        prompts = -(-at_once // group)
        sampling = {
            "KV cache of completions": shape.cache_bytes(at_once * (lengths.completion + 2), kind),
            "KV cache of prompts": shape.cache_bytes(prompts * lengths.prompt, kind),
            "prefill (estimate)": min(PREFILL, prompts * lengths.prompt)
            * width
            * (4 * shape.hidden_size + 3 * shape.intermediate_size),
            "sampling's logits": 6 * at_once * codebook * 4,
            "images decoded (estimate)": 6 * group * (recipe.model.area or DEFAULT_AREA) * 256 * 4,
        }
        if sharded:
            sampling["unsharded weights"] = shape.parameters * width
        found.phases["sampling"] = sampling

    def add_reference(self, found: Estimate) -> None:
        """The reference policy, a copy, and the phase that scores by it."""
        shape, width = self.shape, 2 if self.half else 4
        copy = shape.parameters * (2 if self.sharded and self.half else 4)
        tokens, _ = self._micro_tokens()
        phase: dict[str, float] = {
            "activations (estimate)": tokens * width * (6 * shape.hidden_size + 4 * shape.intermediate_size)
        }
        if isinstance(self.recipe, GrpoRecipe) and self.recipe.grpo.reference_device == "cpu":
            phase["reference policy, moved here"] = copy
        else:
            found.always["reference policy"] = copy
        if self.sharded:  # held-out prompts are scored by both
            phase["unsharded weights"] = shape.parameters * width
        found.phases["reference"] = phase

    def flops(self) -> dict[str, float]:
        """By phase: matrices, attention, and the head's visual columns."""
        recipe, shape = self.recipe, self.shape
        groups, sequences = _counts(recipe, recipe.batch.global_size)
        prompt = self.lengths.prompt
        completion, codebook = self.lengths.completion, self.codebook
        matrices = shape.num_hidden_layers * shape.layer_matrices
        width = shape.num_attention_heads * shape.head_width
        shared = groups // recipe.batch.share

        def forward(prompts: int) -> float:
            """All tokens once: of so many prompts, of all completions; each query sees what is before it."""
            tokens = prompts * prompt + sequences * completion
            seen = prompts * prompt**2 / 2 + sequences * (prompt * completion + completion**2 / 2)
            return 2 * matrices * tokens + 4 * shape.num_hidden_layers * width * seen

        head = 2 * shape.hidden_size * codebook * sequences * completion
        # Backward: twice the forward (gradients of activations and of weights); without weights' gradients
        # once. Recomputed activations are one forward more; logits are made again in the backward pass.
        backward = 1 if recipe.lora is not None else 2
        again = 1 if recipe.precision.gradient_checkpointing else 0
        training = forward(shared) * (1 + backward + again) + head * (2 + backward)
        found = {"sampling": forward(groups) + head} if isinstance(recipe, GrpoRecipe) else {}
        if _refers(recipe):
            found["reference"] = forward(shared) + head
        if not isinstance(recipe, GrpoRecipe):
            return {**found, "training": training}
        if recipe.grpo.updates > 1:
            found["old log-probabilities"] = forward(shared) + head
        found["training"] = training * recipe.grpo.updates
        return found


def _counts(recipe: PolicyRecipe, size: int) -> tuple[int, int]:
    """(prompts, sequences) of so many as `batch` counts: sequences, or pairs."""
    if isinstance(recipe, GrpoRecipe):
        return size // recipe.rollouts.group, size
    return size, size * 2 if isinstance(recipe, DpoRecipe) else size


def _refers(recipe: PolicyRecipe) -> bool:
    """Whether a run keeps a reference policy."""
    if not isinstance(recipe, GrpoRecipe):
        return isinstance(recipe, DpoRecipe)
    return recipe.grpo.kl_coefficient > 0 or recipe.early_stopping.max_kl is not None
