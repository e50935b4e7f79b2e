"""LoRA adapters through peft: small trainable matrices beside frozen ones.

With the adapter switched off (`model.disable_adapter()`) the model is the reference policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from transformers import Emu3ForCausalLM

from earl.config.sections import Projection
from earl.errors import ConfigError, ModelFormatError, ModelNotFoundError
from earl.files import new_folder
from earl.models.resolve import SHIPPED, read_json

if TYPE_CHECKING:
    from peft import PeftModel

TARGETS: tuple[Projection, ...] = get_args(Projection)


def add_lora(
    model: Emu3ForCausalLM,
    rank: int,
    targets: Sequence[str] = TARGETS,
    *,
    alpha: float | None = None,
    base: str | None = None,
) -> PeftModel:
    """Freeze a policy and put trainable low-rank matrices beside the named projections.

    Args:
        rank: at least 1.
        targets: projections of the layers, some of `TARGETS`; the head and embedding are not among
            them, because likelihoods read the head's columns directly.
        alpha: the update is scaled by alpha / rank; None means 2 x rank.
        base: what the adapter's file names as its base model, a folder by its absolute path; None keeps
            where the model came from.

    Raises:
        ConfigError: rank below 1, or a projection that is not there.
    """
    unknown = [target for target in targets if target not in TARGETS]
    if rank < 1 or unknown or not targets:
        what = f"target '{unknown[0]}'" if unknown else f"rank {rank} with {len(targets)} targets"
        raise ConfigError(f"LoRA cannot have {what}; rank >= 1, targets among {', '.join(TARGETS)}")
    from peft import LoraConfig, get_peft_model  # slow to import, needed for adapters only

    if base is not None:
        local = Path(base).expanduser()
        model.name_or_path = str(local.resolve()) if base != SHIPPED and local.is_dir() else base
    scale: Any = 2 * rank if alpha is None else int(alpha) if alpha % 1 == 0 else alpha  # peft takes both
    config = LoraConfig(
        r=rank, lora_alpha=scale, lora_dropout=0.0, target_modules=list(targets), task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def save_adapter(model: Any, folder: str | Path) -> None:
    """Save the adapter alone, atomically; its file names the base model.

    Raises:
        OutputError: the disk is full or not writable; the folder is as before.
    """
    with new_folder(folder) as fresh:
        model.save_pretrained(fresh, save_embedding_layers=False)


_UNREAD = ("lm_head", "embed_tokens")


def attach_adapter(base: Emu3ForCausalLM, folder: Path) -> Any:
    """Put a saved adapter on its base policy.

    Raises:
        ModelNotFoundError: no adapter_model.safetensors.
        ModelFormatError: a pickled or truncated adapter, one that does not fit the base, or one on the head
            or the embedding, which would be left out of likelihoods and merged wrongly where they are tied.
    """
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        if (folder / "adapter_model.bin").is_file():
            raise ModelFormatError(
                f"{folder} holds a pickled adapter, which is not opened; save it as safetensors"
            )
        raise ModelNotFoundError(f"{weights} is missing; fetch it")
    if read_json(folder / "adapter_config.json").get("peft_type") != "LORA":
        raise ModelFormatError(f"{folder} is not a LoRA adapter; other kinds are not supported")
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    weights.open("rb").close()  # safetensors says of a file that may not be read that it is not there
    try:
        model = PeftModel.from_pretrained(base, str(folder))
        with safe_open(weights, framework="pt") as stored:
            given = {name for name in stored.keys() if "lora_" in name}  # noqa: SIM118 (not a dict)
        named = get_peft_model_state_dict(model, save_embedding_layers=False)
    except Exception as error:  # peft and its parsers fail in many ways on odd values
        first_line = str(error).strip().split("\n")[0]
        raise ModelFormatError(f"the adapter in {folder} does not fit its base: {first_line}") from error
    if unlike := given.symmetric_difference(name for name in named if "lora_" in name):
        raise ModelFormatError(  # peft takes what fits and leaves the rest as it was drawn
            f"the adapter in {folder} does not fit its adapter_config.json: {len(unlike)} weights are in one "
            f"of the two only, as {min(unlike)}; fetch it again"
        )
    unread = {
        part for name, _ in model.named_parameters() if "lora_" in name for part in _UNREAD if part in name
    }
    if unread:  # sampling and likelihoods read these weights as they are
        raise ModelFormatError(
            f"the adapter in {folder} changes {' and '.join(unread)}, which cannot be used: merge it into a "
            "copy of its base, with the head untied from the embedding, by the library that made it"
        )
    return model.eval()


def merged(model: Any) -> Emu3ForCausalLM:
    """The policy with its adapter added into its weights, all of them trainable; itself where it has none.

    Sums are rounded to the dtype of the weights.
    """
    plain: Emu3ForCausalLM = model
    if not hasattr(model, "peft_config"):
        return plain
    plain = model.merge_and_unload()
    if hasattr(plain, "peft_config"):  # peft leaves its mark on the module that it wrapped
        del plain.peft_config
    for parameter in plain.parameters():
        parameter.requires_grad_(True)
    plain.eval()
    return plain
