"""Editors: a model of ours, or images that were made elsewhere.

An editor gets tasks whose images have been opened and gives images back; what cannot be made
is a reason, never an exception for the whole batch.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from earl.config import EvaluationSettings, ModelSettings, SamplingSettings
from earl.errors import DataError, EarlError
from earl.evaluation.benchmark import Task, plain_name
from earl.evaluation.folder import EvaluationFolder, is_evaluation
from earl.evaluation.records import EditState
from earl.files import checksum, parse_json, read_text
from earl.models.resolve import resolve_model
from earl.models.weight_files import fingerprint
from earl.pipeline import EditPipeline, build_pipeline
from earl.pipeline.result import REFUSALS
from earl.records import FinishReason, Part, SizeRule
from earl.vision.images import CELL, SUFFIXES, open_image, resize_to, target_size

WEIGHED: tuple[Part, ...] = ("policy", "vision")
"""Parts whose weights are the model's identity."""
_IMAGE = 2**16  # bytes of an image that are read to tell it from another
LIST = "predictions.jsonl"
AREA = 65_536
"""px² to which images made elsewhere are brought, 256 x 256."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image for a task, or why there is none (`state`, `problem`)."""

    image: Image.Image | None
    state: EditState = "edited"
    seed: int | None = None
    finish_reason: FinishReason = "stop"
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Edited:
    """A task's source as it is shown to the verifier, and the candidates, at least one."""

    task: Task
    source: Image.Image
    candidates: tuple[Candidate, ...]
    seconds: float = 0.0


class Editor(Protocol):
    """Makes edits."""

    @property
    def name(self) -> str:
        """Name of what is evaluated, for tables."""
        ...

    def describe(self) -> dict[str, Any]:
        """All that decides the edits, as JSON: "kind", "name", "candidates" where several are drawn."""
        ...

    def edit(self, batch: Sequence[tuple[Task, Image.Image]]) -> list[Edited]:
        """Edits of a batch, in its order."""
        ...


@dataclass
class ModelEditor:
    """A model of ours, loaded when the first edit is wanted.

    Task n is drawn with seed `sampling.seed` + n * `candidates`, and the seeds that follow.

    Args:
        name: what to call it.
        load: gives the pipeline.
        identity: what fixes the model, for `describe` (`fingerprint`).
        sampling: how it draws.
        candidates: images drawn for a task, >= 1.
        area: px²; the model's own when None.
        folder: of the model, which may say what it was trained by.
    """

    name: str
    load: Callable[[], EditPipeline]
    identity: Mapping[str, Any] = field(default_factory=dict)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    candidates: int = 1
    area: int | None = None
    folder: Path | None = None
    _pipeline: EditPipeline | None = None

    @classmethod
    def of_settings(
        cls, model: ModelSettings, sampling: SamplingSettings, evaluation: EvaluationSettings
    ) -> ModelEditor:
        """The model that settings describe. Raises what `earl.models.resolve.resolve_model` raises, and
        MissingExtraError where vLLM is named and not installed."""
        folder = resolve_model(model.model, model.revision, tokenizer=model.tokenizer, vision=model.vision)
        if model.engine == "vllm":
            from earl.sampling.vllm.engine import import_vllm

            import_vllm()  # fails before a folder is begun if vLLM is not installed
        weights = "-".join(fingerprint(folder.need(part)) for part in WEIGHED)
        own_area = folder.meta.get("area")
        if sampling.reasoning is None:  # the plan records what the model will do
            sampling = sampling.replace(reasoning=bool(folder.reasons))
        return cls(
            evaluation.name or model.model,
            lambda: build_pipeline(model),
            {"weights": weights, "dtype": model.dtype}
            | ({"engine": model.engine} if model.engine != "earl" else {})
            | ({"steps": folder.meta["steps"]} if sampling.reasoning and "steps" in folder.meta else {}),
            sampling,
            evaluation.best_of,
            evaluation.area or (own_area if isinstance(own_area, int) else None),
            folder.path,
        )

    def describe(self) -> dict[str, Any]:
        sampling = self.sampling.model_dump()
        if sampling["max_text_tokens"] == SamplingSettings().max_text_tokens:
            del sampling["max_text_tokens"]  # earlier plans, which such a folder may hold, never had it
        if not self.sampling.guided:
            sampling = {n: v for n, v in sampling.items() if n not in ("guidance", "negative_instruction")}
        fixed = {"kind": "model", "name": self.name, **self.identity, **sampling}
        return fixed | {"candidates": self.candidates, "area": self.area}

    def edit(self, batch: Sequence[tuple[Task, Image.Image]]) -> list[Edited]:
        """All at once; where one is refused (too long, for one), one by one."""
        if self._pipeline is None:
            self._pipeline = self.load()
        try:
            results = self._pipeline.edit_many(
                [(image, task.instruction) for task, image in batch],
                self.sampling,
                seeds=[self.sampling.seed + task.number * self.candidates for task, _ in batch],
                num_images=self.candidates,
                area=self.area,
            )
        except REFUSALS as error:
            if len(batch) == 1:
                task, image = batch[0]
                return [Edited(task, image, (Candidate(None, "refused", problem=str(error)),))]
            return [edited for pair in batch for edited in self.edit([pair])]
        edits = []
        for (task, _), result in zip(batch, results, strict=True):
            drawn = zip(result.images, result.seeds, result.completions, result.problems, strict=True)
            candidates = tuple(
                Candidate(image, "edited" if image else "no_image", seed, c.finish_reason, problem or "")
                for image, seed, c, problem in drawn
            )
            edits.append(Edited(task, result.source, candidates, result.seconds / len(batch)))
        return edits


class PredictionsEditor:
    """Images made elsewhere: a folder of ID.png, a `predictions.jsonl`, or another evaluation's folder.

    A task is found by its exact id first, then by its key, then by its id with other characters than
    letters, digits and ". _ ~ -" written "_"; where two tasks would share an image in that way, both are
    refused.

    Args:
        folder: where they are. `predictions.jsonl` has lines {"id": …, "image": path}; an image of
            null says that the system made none.
        name: what to call the system.
        area: px² to which sources and images are brought.
        rule: by which their sides are rounded, that of the model that they are compared with.

    Raises:
        DataError: no such folder, no image in it, or two images of one task.
    """

    def __init__(
        self, folder: str | Path, *, name: str = "", area: int = AREA, rule: SizeRule = "snap"
    ) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise DataError(f"{folder} is no folder; give one with the edited images")
        self.name = name or self.folder.resolve().name
        self.area, self.rule = area, rule
        self._files: dict[str, Path | None] = {}
        for id, path in self._found():
            if id in self._files:
                both = " and ".join(str(file) for file in (self._files[id], path))
                raise DataError(f"{self.folder} has two images of {id!r}, {both}; leave one")
            self._files[id] = path
        self._used: dict[str, str] = {}
        if not self._files:
            raise DataError(
                f"{folder} has no images; name them by the task's id (ID.png), or list them in {LIST}"
            )

    def describe(self) -> dict[str, Any]:
        listed = "\n".join(f"{id}\t{self._beside(path)}" for id, path in sorted(self._files.items()))
        digest = hashlib.blake2b(listed.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        inside = hashlib.blake2b(digest_size=8)  # earlier versions wrote the names' digest alone
        for path in (path for _, path in sorted(self._files.items()) if path is not None and path.is_file()):
            inside.update(checksum(path, most=_IMAGE, pieces=4).encode())
        files = f"{digest}.{inside.hexdigest()}"
        described = {"kind": "predictions", "name": self.name, "files": files, "area": self.area}
        return described | ({"size": self.rule} if self.rule != "snap" else {})

    def edit(self, batch: Sequence[tuple[Task, Image.Image]]) -> list[Edited]:
        return [self._one(task, image) for task, image in batch]

    def _one(self, task: Task, image: Image.Image) -> Edited:
        size = target_size(*image.size, self.area, self.rule)
        source = resize_to(image, size)
        id = self._id_of(task)
        if id is None:
            problem = f"no image of {task.id!r} in {self.folder}"
            return Edited(task, source, (Candidate(None, "missing", problem=problem),))
        path = self._files[id]
        if path is None:
            return Edited(task, source, (Candidate(None, "no_image", problem="the system made none"),))
        try:
            edited = open_image(path)
            # An image of the size that a model decodes stays as it is.
            if edited.size != (CELL * (size[0] // CELL), CELL * (size[1] // CELL)):
                edited = resize_to(edited, size)
        except EarlError as error:
            return Edited(task, source, (Candidate(None, "missing", problem=str(error)),))
        return Edited(task, source, (Candidate(edited),))

    def _id_of(self, task: Task) -> str | None:
        """The id under which a task's image is given. Raises DataError: another task has taken it."""
        for id in map(_normal, (task.id, task.key, plain_name(task.id))):
            if id in self._files:
                other = self._used.setdefault(id, task.id)
                if other != task.id:
                    raise DataError(
                        f"the image of {id!r} in {self.folder} could be of the task {other!r} and of "
                        f"{task.id!r}; list the images by their exact ids in {LIST}"
                    )
                return id
        return None

    def _found(self) -> Iterator[tuple[str, Path | None]]:
        if is_evaluation(self.folder):
            for edit in EvaluationFolder(self.folder).edits:
                if edit.state in ("edited", "no_image"):
                    yield _normal(edit.id), self.folder / edit.edited if edit.edited else None
        elif (self.folder / LIST).is_file():
            yield from self._listed()
        else:
            for path in sorted(self.folder.iterdir()):
                if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
                    yield _normal(path.stem), path

    def _listed(self) -> Iterator[tuple[str, Path | None]]:
        for number, line in enumerate(read_text(self.folder / LIST).split("\n"), 1):
            if not line.strip():
                continue
            where = f"{self.folder / LIST}:{number}"
            row = parse_json(line, where)
            if not isinstance(row, dict) or "image" not in row or not isinstance(row.get("id"), str | int):
                raise DataError(f'{where} is not {{"id": …, "image": path or null}}')
            image = row["image"]
            yield _normal(str(row["id"])), None if image is None else self.folder / str(image)

    def _beside(self, path: Path | None) -> str:
        """A path as it is seen from the folder, so that both can be moved."""
        if path is None:
            return ""
        return path.relative_to(self.folder).as_posix() if path.is_relative_to(self.folder) else str(path)


def _normal(id: str) -> str:
    """The id in Unicode form NFC: file systems differ in how they store accents."""
    return unicodedata.normalize("NFC", id)
