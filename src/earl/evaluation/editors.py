"""Who makes the edits: a model of ours, or images that were made elsewhere.

An editor gets tasks whose images have been opened and gives images back; what cannot be made
is a reason, never an exception for the whole batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL import Image

from earl.errors import DataError, EarlError
from earl.evaluation.benchmark import Task, safe_name
from earl.evaluation.folder import is_evaluation
from earl.pipeline import EditPipeline
from earl.records import FinishReason
from earl.store import JsonLinesStore
from earl.vision import open_image, resize_to, target_size

State = Literal["edited", "no_image", "missing", "refused"]
IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
LIST = "predictions.jsonl"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One image for a task. "no_image": the model wrote none; "missing": nobody made one."""

    image: Image.Image | None
    state: State = "edited"
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

    name: str

    def describe(self) -> dict[str, Any]:
        """What fixes the edits, as JSON."""
        ...

    def edit(self, batch: Sequence[tuple[Task, Image.Image]]) -> list[Edited]:
        """Edits of a batch, in its order."""
        ...


@dataclass(frozen=True)
class Drawing:
    """How a model draws: seed of task 0 and its first candidate, settings of `EditPipeline`."""

    seed: int = 0
    temperature: float = 1.0
    top_k: int = 2048
    top_p: float = 1.0
    greedy: bool = False
    guidance: float = 1.0
    negative_instruction: str | None = None
    reasoning: bool = False
    candidates: int = 1

    def describe(self) -> dict[str, Any]:
        """All settings; those of guidance only where there is some, as in evaluations from before it."""
        left_out = () if self.guidance != 1 else ("guidance", "negative_instruction")
        return {name: value for name, value in vars(self).items() if name not in left_out}

    def seed_of(self, task: Task) -> int:
        """The first seed of a task; its candidates have those that follow."""
        return self.seed + task.number * self.candidates


@dataclass
class ModelEditor:
    """A model of ours, loaded when the first edit is wanted.

    Args:
        name: what to call it.
        load: gives the pipeline.
        identity: what fixes the model, for `describe` (`fingerprint`).
        area: px²; the model's own when None.
    """

    name: str
    load: Any
    identity: Mapping[str, Any]
    drawing: Drawing = field(default_factory=Drawing)
    area: int | None = None
    _pipeline: EditPipeline | None = None

    def describe(self) -> dict[str, Any]:
        return {
            "kind": "model",
            "name": self.name,
            **self.identity,
            **self.drawing.describe(),
            "area": self.area,
        }

    def edit(self, batch: Sequence[tuple[Task, Image.Image]]) -> list[Edited]:
        """All at once; where one is refused (too long, for one), one by one."""
        if self._pipeline is None:
            self._pipeline = self.load()
        drawing = self.drawing
        try:
            results = self._pipeline.edit_many(
                [(image, task.instruction) for task, image in batch],
                seeds=[drawing.seed_of(task) for task, _ in batch],
                num_images=drawing.candidates,
                temperature=drawing.temperature,
                top_k=drawing.top_k,
                top_p=drawing.top_p,
                greedy=drawing.greedy,
                guidance=drawing.guidance,
                negative_instruction=drawing.negative_instruction,
                reasoning=drawing.reasoning,
                area=self.area,
            )
        except EarlError as error:
            if len(batch) == 1:
                task, image = batch[0]
                return [Edited(task, image, (Candidate(None, "refused", problem=str(error)),))]
            return [edited for pair in batch for edited in self.edit([pair])]
        return [
            Edited(
                task,
                result.source,
                tuple(
                    Candidate(image, "edited" if image else "no_image", seed, c.finish_reason, problem or "")
                    for image, seed, c, problem in zip(
                        result.images, result.seeds, result.completions, result.problems, strict=True
                    )
                ),
                result.seconds / len(batch),
            )
            for (task, _), result in zip(batch, results, strict=True)
        ]


class PredictionsEditor:
    """Images made elsewhere: a folder of ID.png, a `predictions.jsonl`, or another evaluation's folder.

    Args:
        folder: where they are. `predictions.jsonl` has lines {"id": …, "image": path}; an image of
            null says that the system made none.
        name: what to call the system.
        area: px² to which sources and images are brought.

    Raises:
        DataError: no such folder, or no image in it.
    """

    def __init__(self, folder: str | Path, *, name: str = "", area: int = 65_536) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise DataError(f"{folder} is no folder; give one with the edited images")
        self.name = name or self.folder.name
        self.area = area
        self._files = self._find()
        if not self._files:
            raise DataError(
                f"{folder} has no images; name them by the task's id (ID.png), or list them in {LIST}"
            )

    def describe(self) -> dict[str, Any]:
        listed = "\n".join(
            f"{key}\t{_beside(path, self.folder)}" for key, path in sorted(self._files.items())
        )
        digest = hashlib.blake2b(listed.encode(), digest_size=8).hexdigest()
        return {"kind": "predictions", "name": self.name, "files": digest, "area": self.area}

    def edit(self, batch: Sequence[tuple[Task, Image.Image]]) -> list[Edited]:
        return [self._one(task, image) for task, image in batch]

    def matches(self, tasks: Sequence[Task]) -> int:
        """Tasks that have an image here."""
        return sum(task.key in self._files for task in tasks)

    def _one(self, task: Task, image: Image.Image) -> Edited:
        size = target_size(*image.size, self.area)
        source = resize_to(image, size)
        if task.key not in self._files:
            missing = Candidate(None, "missing", problem=f"no image of {task.id!r} in {self.folder}")
            return Edited(task, source, (missing,))
        path = self._files[task.key]
        if path is None:
            return Edited(task, source, (Candidate(None, "no_image", problem="the system made none"),))
        try:
            picture = resize_to(open_image(path), size)
        except EarlError as error:
            return Edited(task, source, (Candidate(None, "missing", problem=str(error)),))
        return Edited(task, source, (Candidate(picture),))

    def _find(self) -> dict[str, Path | None]:
        if is_evaluation(self.folder):
            return {
                record["key"]: self.folder / record["edited"] if record["edited"] else None
                for record in JsonLinesStore(self.folder / "edits.jsonl")
                if record["state"] in ("edited", "no_image")
            }
        if (self.folder / LIST).is_file():
            return self._listed()
        found: dict[str, Path | None] = {}
        for path in sorted(self.folder.iterdir()):
            if path.suffix.lower() in IMAGES:
                key = safe_name(path.stem)
                if key in found:
                    raise DataError(f"{found[key]} and {path} are both images of {key!r}; remove one")
                found[key] = path
        return found

    def _listed(self) -> dict[str, Path | None]:
        found: dict[str, Path | None] = {}
        for number, line in enumerate((self.folder / LIST).read_text(encoding="utf-8").splitlines(), 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                key, image = safe_name(str(row["id"])), row["image"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f'{self.folder / LIST}:{number} is not {{"id": …, "image": path or null}}'
                ) from error
            found[key] = None if image is None else self.folder / Path(str(image))
        return found


def _beside(path: Path | None, folder: Path) -> str:
    """A path as it is seen from a folder, so that both can be moved."""
    if path is None:
        return ""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def fingerprint(folder: Path) -> str:
    """Of a model's weights: sizes and ends of its safetensors files, so that other weights are noticed."""
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(folder.rglob("*.safetensors")):
        size = path.stat().st_size
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(folder)} {size}\n".encode())
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()
