"""The editing pipeline: image and instruction in, edited images out.

An edit goes vision (codes of the source) → sequence (prompt) → sampling (completion) → sequence (codes of
the edited image) → vision (pixels). `build_pipeline` is the one function that puts these parts together.

The images come out at the size the model works at (its area in px², the source's aspect, sides multiples
of 8). Each image is drawn from its own random stream, whatever else is in the batch; rounding (bfloat16
above all) can still tip a near tie between two codes.

Axis letters: H W latent rows and columns.
"""

from earl.pipeline.build import build_pipeline, pick_device
from earl.pipeline.edit import EditPipeline, PreparedEdit
from earl.pipeline.result import EditResult, best_index, best_of

__all__ = [
    "EditPipeline",
    "EditResult",
    "PreparedEdit",
    "best_index",
    "best_of",
    "build_pipeline",
    "pick_device",
]
