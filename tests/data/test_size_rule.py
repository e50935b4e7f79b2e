"""A model's size rule from its vision tokenizer to shards, prompts, trained models and listings."""

from __future__ import annotations

import json

import pytest
import source_files as files
from PIL import Image
from source_files import Marks

from earl.config.data import PreparationSettings
from earl.config.sections import Data, Source
from earl.data.prepare import prepare_source
from earl.data.shards import load_shards, read_manifest
from earl.data.sources.opening import open_source
from earl.data.tasks import EditTask
from earl.errors import DataError
from earl.models.listing import describe_models, model_lines
from earl.records import Grid
from earl.sequence.trained import train_text_tokenizer
from earl.training.grpo.prompts import ShardPrompts, TaskPrompts
from earl.training.parts import fitting, load_sources
from earl.vision.images import target_size


class Released(Marks):
    rule = "release"
    area = 65_536

    def decode(self, codes):
        return [Image.new("RGB", (c.shape[1] * 8, c.shape[0] * 8), (int(c[0, 0]),) * 3) for c in codes]


def prepared(folder, encoder, sizes):
    """Shards of pairs of black images of these sizes, the target with a white mark at its right end."""
    inside = folder.with_name(folder.name + "-images")
    inside.mkdir()
    for number, (size, other) in enumerate(sizes):
        files.save(Image.new("RGB", size), inside / f"{number}.png")
        edited = Image.new("RGB", other)
        edited.paste((255, 255, 255), (other[0] - 40, 0, other[0], 40))
        files.save(edited, inside / f"{number}-after.png")
    rows = [
        {"id": str(n), "source": f"{n}.png", "target": f"{n}-after.png", "instruction": "mark it"}
        for n in range(len(sizes))
    ]
    (inside / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    prepare_source(open_source(str(inside)), folder, encoder, PreparationSettings())
    return folder


def test_shards_have_the_grids_of_the_rule_and_name_it(tmp_path):
    sizes = [((640, 480), (640, 480)), ((640, 480), (641, 480)), ((640, 480), (560, 480))]
    shards = load_shards(prepared(tmp_path / "release", Released(), sizes))
    for number in range(3):  # 4:3 gives 27 x 37; the third target alone would give 29 x 34
        edit = shards[number]
        assert edit.source_codes.shape == edit.target_codes.shape == edit.changed.shape == (27, 37)
        assert edit.changed[0, 35:].all() and not edit.changed[:, :20].any()
    assert shards.size_rule == read_manifest(tmp_path / "release")["size_rule"] == "release"
    snapped = load_shards(prepared(tmp_path / "snap", Marks(), sizes[:1]))
    assert snapped[0].source_codes.shape == (28, 37)
    assert snapped.size_rule == "snap" and "size_rule" not in read_manifest(tmp_path / "snap")
    with pytest.raises(DataError, match="size_rule = None, now 'release'"):
        prepare_source(open_source(str(tmp_path / "snap-images")), tmp_path / "snap", Released())


def test_a_run_refuses_a_mixture_of_rules(tmp_path):
    made = {
        name: str(prepared(tmp_path / name, encoder, [((640, 480), (640, 480))]))
        for name, encoder in (("old", Marks()), ("new", Released()))
    }
    tokenizer = train_text_tokenizer(["mark it"], size=300, codebook_size=256)

    def sources(*names, rule):
        data = Data(sources={name: Source(path=made[name]) for name in names})
        return load_sources(data.sources, tokenizer, rule)

    with pytest.raises(DataError, match="new by the rule 'release' and old by the rule 'snap'"):
        sources("old", "new", rule=None)
    with pytest.raises(DataError, match="resized by the rule 'snap', the model's is 'release'"):
        sources("old", rule="release")
    assert list(sources("new", rule="release")) == ["new"]
    with pytest.raises(DataError, match="resized by the rule 'release', the model's is 'snap'"):
        fitting(load_shards(made["new"]), tokenizer, "snap")


def test_prompts_of_reinforcement_have_the_grids_of_the_rule(tmp_path):
    tokenizer = train_text_tokenizer(["mark it"], size=300, codebook_size=256)

    class Tasks:
        def draw(self, seed):
            target = Image.new("RGB", (480, 480)) if seed % 2 else None
            return EditTask(str(seed), Image.new("RGB", (640, 480)), "mark it", target)

    for encoder, grid, size in ((Released(), Grid(27, 37), (296, 222)), (Marks(), Grid(28, 37), (296, 224))):
        encoder.area = 65_536
        prompts = TaskPrompts(encoder, tokenizer, Tasks(), seed=0, split="train").make(range(8))
        assert {prompt.grid for prompt in prompts} == {grid}
        assert {prompt.source.size for prompt in prompts} == {size}
        assert {prompt.target and prompt.target.size for prompt in prompts} == {None, size}
    shards = load_shards(prepared(tmp_path / "s", Released(), [((640, 480), (640, 480))]))
    (prompt,) = ShardPrompts(Released(), tokenizer, {"s": shards}, iter([("s", 0)])).make([0])
    assert prompt.grid == Grid(27, 37) and prompt.source.size == (296, 216)


def test_models_say_their_rule():
    rows = {row["name"]: row for row in describe_models()}
    assert rows["mair-lab/sft-simple"]["size"] == rows["BAAI/Emu3-VisionTokenizer"]["size"] == "release"
    assert "size rule release" in model_lines(rows["mair-lab/sft-simple"])
    assert rows["world"]["size"] == "snap"


def test_both_rules_agree_on_squares():
    assert target_size(400, 400, 65_536, "snap") == target_size(400, 400, 65_536, "release") == (256, 256)
