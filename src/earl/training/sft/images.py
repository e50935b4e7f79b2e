"""Images of held-back edits during SFT: before, target, and what the policy in training makes."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from earl.config import EngineSettings, SamplingSettings
from earl.data.shards import Edit
from earl.pages.sheets import contact_sheet
from earl.pipeline import build_pipeline
from earl.records import Grid
from earl.sampling import Request
from earl.sequence.grammar import Prefill
from earl.sequence.layout import parse_completion, write_prompt
from earl.training.parts import Parts
from earl.training.run import Run
from earl.vision.loading import load_vision_tokenizer


class EditImages:
    """Draws the same few edits at each call, greedily, with the weights as they are.

    Args:
        parts: of the model in training, with a vision tokenizer.
        edits: held back, from shards; those that are too long for the policy are left out.
        prefill: how completions begin.
        run: its device and precision.
    """

    def __init__(self, parts: Parts, edits: Sequence[Edit], prefill: Prefill, run: Run) -> None:
        assert parts.vision_path is not None, "without one there are no images"
        pipeline = build_pipeline(
            EngineSettings(),
            policy=parts.policy,
            tokenizer=parts.tokenizer,
            vision=load_vision_tokenizer(parts.vision_path, device=str(run.device)),
            dtype=run.sampling_dtype,
        )
        self.vision, self.engine, self.tokenizer = pipeline.vision, pipeline.engine, parts.tokenizer
        self.shown: list[tuple[Edit, Request]] = []
        for edit in edits:
            request = Request(
                prompt=tuple(write_prompt(edit.source_codes, edit.instruction, parts.tokenizer)),
                seeds=(0,),
                grid=Grid(*map(int, edit.source_codes.shape)),
                prefill=prefill,
                draft=tuple(edit.source_codes.ravel().tolist()),
            )
            length = len(request.prompt) + request.grammar(parts.tokenizer).max_length
            if length <= self.engine.max_positions:
                self.shown.append((edit, request))

    def draw(self) -> Image.Image:
        """One sheet: each edit's instruction over its source, its target and the edit."""
        requests = [request for _, request in self.shown]
        completions = self.engine.generate(requests, SamplingSettings(greedy=True))
        rows = []
        for (edit, _), (completion,) in zip(self.shown, completions, strict=True):
            edited = parse_completion(completion.ids, self.tokenizer).codes
            known = [codes for codes in (edit.source_codes, edit.target_codes, edited) if codes is not None]
            images = self.vision.decode([codes for codes in known if codes.size])
            ending = (
                "before, target, edited" if edited is not None else "before, target; no image was written"
            )
            rows.append((f"{edit.instruction} ({ending})", images))
        return contact_sheet(rows)
