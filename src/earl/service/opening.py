"""The edit service that settings describe."""

from __future__ import annotations

from earl.config import ModelSettings, VerifierSettings
from earl.config.service import ServiceSettings
from earl.pipeline import EditResult, build_pipeline, pick_device
from earl.records import Verdict
from earl.service.edits import EditService
from earl.service.server import read_keys
from earl.service.session import Session


def open_service(
    settings: ServiceSettings, model: ModelSettings, verifier: VerifierSettings | None = None
) -> EditService:
    """Load a model and make the service around it.

    Args:
        verifier: scores images for `best_of`; None refuses that parameter.

    Raises:
        ConfigError: no key in the named variable; see also `build_pipeline`, `make_verifier`.
    """
    keys = read_keys(settings.keys_env)
    judge = None
    if verifier is not None:
        from earl.verifiers.factory import make_verifier

        scorer = make_verifier(verifier)

        async def judge(result: EditResult) -> list[Verdict]:
            return await scorer.judge(result.attempts())

    if model.dtype == "auto" and model.engine == "earl" and pick_device(model.device) == "cpu":
        model = model.replace(dtype="float32")  # an image then does not depend on who else asks
    return EditService(Session(build_pipeline(model)), model.model, settings, keys=keys, judge=judge)
