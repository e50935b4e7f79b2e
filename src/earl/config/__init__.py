"""Settings, each declared once with its unit and range, and recipes that hold them."""

from earl.config.endpoint import EndpointSettings, JudgeSettings, WriterSettings
from earl.config.evaluation import BenchmarkSettings, EvaluationSettings
from earl.config.model import EngineSettings, ModelSettings
from earl.config.sampling import DrawSettings, SamplingSettings
from earl.config.settings import Settings
from earl.config.verifier import RewardSettings, VerifierSettings

__all__ = [
    "BenchmarkSettings",
    "DrawSettings",
    "EndpointSettings",
    "EngineSettings",
    "EvaluationSettings",
    "JudgeSettings",
    "ModelSettings",
    "RewardSettings",
    "SamplingSettings",
    "Settings",
    "VerifierSettings",
    "WriterSettings",
]
