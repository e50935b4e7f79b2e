"""The one function that builds an editing pipeline from settings or from parts in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from earl.errors import ConfigError
from earl.models.resolve import resolve_model
from earl.pipeline.edit import EditPipeline
from earl.pipeline.steps import split_of
from earl.sequence.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from earl.config import EngineSettings, ModelSettings
    from earl.vision.tokenizer import VisionTokenizer


def build_pipeline(
    settings: EngineSettings | None = None,
    *,
    policy: Any = None,
    tokenizer: TextTokenizer | None = None,
    vision: VisionTokenizer | None = None,
    **engine_options: Any,
) -> EditPipeline:
    """Build an editing pipeline: load a model's parts, or take those in memory, and make the engine.

    The policy that is loaded for the native engine mostly holds weights alone (`open_policy`);
    `earl.load_policy` gives the transformers model, which has a forward pass.

    Args:
        settings: which model, where and how, with which engine; the shipped model when None. Where all three
            parts are given, only the fields of `EngineSettings` are used.
        policy: a policy in memory, as one in training, in place of the model's; its current weights are
            read at each call, where those of a loaded one are read once.
        tokenizer, vision: its text tokenizer and vision tokenizer, in place of the model's.
        engine_options: see `earl.sampling.create_engine`.

    Raises:
        ModelNotFoundError, ModelFormatError, TokenizerError: a part is missing or damaged.
        ConfigError: CUDA is asked for and not there.
        MissingExtraError, EngineError: vLLM is not installed, cannot be started or reached.
    """
    from earl.config import ModelSettings
    from earl.sampling import create_engine

    settings = settings or ModelSettings()
    name, frozen = "model", False
    if policy is None or tokenizer is None or vision is None:
        assert isinstance(settings, ModelSettings), "parts are loaded by the settings of a model"
        name, device = settings.model, pick_device(settings.device)
        folder = resolve_model(
            settings.model, settings.revision, tokenizer=settings.tokenizer, vision=settings.vision
        )
        tokenizer = tokenizer or TextTokenizer.from_folder(folder.need("tokenizer"))
        if vision is None:
            from earl.vision.loading import load_vision_tokenizer

            # The area in earl.json belongs to the whole model: where there is one, its folder is named.
            whole = folder.meta and settings.vision is None
            vision = load_vision_tokenizer(folder.path if whole else folder.need("vision"), device=device)
        if policy is None:
            frozen, policy = True, _load_policy(folder.need("policy"), settings, device)
            if settings.engine == "vllm" and settings.dtype != "auto":
                engine_options = {"dtype": settings.dtype, **engine_options}
    engine = create_engine(settings, policy, tokenizer, **{"frozen": frozen, **engine_options})
    pipeline = EditPipeline(engine, vision, name=name)
    if frozen and isinstance(settings, ModelSettings):
        pipeline.settings = settings
        pipeline.reasons, pipeline.split = folder.reasons, split_of(folder.meta, name)
    return pipeline


def _load_policy(folder: Path, settings: ModelSettings, device: str) -> Any:
    """A policy in the form that its engine takes."""
    if settings.engine == "vllm":
        from earl.sampling.vllm.engine import import_vllm, servable

        import_vllm()  # where it is missing no weights need loading
        return servable(folder)
    from earl.policy.stored import open_policy

    dtype = "bfloat16" if settings.dtype == "auto" and device.startswith("cuda") else settings.dtype
    return open_policy(folder, dtype=dtype, device=device, quantize=settings.quantize)


def pick_device(name: str) -> str:
    """ "auto" made definite. Raises ConfigError for CUDA where torch sees none."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r}: torch sees no CUDA device here; use 'cpu' or 'auto'")
    return name
