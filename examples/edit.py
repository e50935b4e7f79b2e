"""Draw a scene of the world, edit it four times, and keep the best: `python examples/edit.py`."""

from pathlib import Path

from PIL import Image

import earl
from earl.pipeline import best_of
from earl.world.rendering import render
from earl.world.tasks import sample_task
from earl.world.verifier.scene import SceneVerifier

task = sample_task(3, "test", families=["color"])
pipeline = earl.EditPipeline.from_pretrained("world")
side = round(pipeline.vision.area**0.5)
source = Image.fromarray(render(task.source, side))

result = pipeline(source, task.instruction, seed=0, num_images=4)
best, verdict = best_of(result, SceneVerifier())

folder = Path("out")
folder.mkdir(exist_ok=True)
source.save(folder / "source.png")
best.image.save(folder / "edited.png")
print(f"{task.instruction!r}: {verdict.overall:.1f} of 10 with seed {best.seeds[0]}, {result.seconds:.2f} s")
