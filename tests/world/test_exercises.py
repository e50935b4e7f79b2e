"""The exercises that teach the shipped policy where things are (`recipes/world/practice.py`)."""

import sys
from pathlib import Path

import numpy as np
import pytest

from earl.world.families import held_out
from earl.world.sampling import sample_scene
from earl.world.scene import Scene, SceneObject
from earl.world.tasks import list_solids

RECIPES = Path(__file__).parents[2] / "recipes" / "world"


class Codes:
    """An encoder whose codes are the mean level of each cell."""

    def encode(self, images, resize=True):
        return [
            np.asarray(i, np.int32).reshape(8, 8, 8, 8, 3).mean((1, 3, 4)).astype(np.int32) for i in images
        ]


@pytest.fixture
def exercises(monkeypatch):
    monkeypatch.syspath_prepend(str(RECIPES))
    from practice import Exercises

    yield Exercises(Codes(), np.random.default_rng(3))
    sys.modules.pop("practice")
    sys.modules.pop("early")


def test_solids_are_listed_with_their_places():
    scene = Scene(
        "snow",
        "day",
        (
            SceneObject("cube", "red", 1, 1),
            SceneObject("cone", "green", 3, 0, size="small", texture="striped"),
        ),
    )
    listed = {list_solids(scene, np.random.default_rng(seed)) for seed in range(20)}
    red, green = "red cube front left", "small striped green cone back far right"
    assert listed == {f"{red}; {green}", f"{green}; {red}"}


def test_a_solid_on_top_is_listed_there():
    rng = np.random.default_rng(0)
    scene = next(
        s for s in (sample_scene(rng, stacks=1.0) for _ in range(50)) if any(o.level for o in s.objects)
    )
    assert " top" in list_solids(scene, rng)


def test_texts_teach_no_image(exercises):
    for bundle in exercises.texts(8):
        for edit in bundle:
            assert not edit.changed.any()
            assert edit.reasoning
            assert np.array_equal(edit.source_codes, bundle[0].source_codes)


def test_drawings_change_what_their_plans_name(exercises):
    several = 0
    for bundle in exercises.drawings(12):
        for edit in bundle:
            differs = edit.source_codes != edit.target_codes
            assert not (differs & ~edit.changed).any()
            assert edit.changed.all() == edit.reasoning.startswith(("background", "style"))
            several += ";" in edit.reasoning
    assert several > 12


def test_drawings_hold_no_held_out_colour(exercises, monkeypatch):
    monkeypatch.setattr("practice.PARTS", ("color",))
    seen = 0
    for bundle in exercises.drawings(40):
        for part in (part for edit in bundle for part in edit.reasoning.split("; ")):
            before, _, after = part.partition(": ")
            if before != "style":
                *_, colour, shape = after.split()
                assert f" {shape} " in f" {before}" and (shape, colour) not in held_out("color")
                seen += 1
    assert seen > 100


def test_cells_are_labelled_with_what_covers_them(exercises):
    from early import cell_labels

    scene = Scene("snow", "day", (SceneObject("cube", "red", 0, 1), SceneObject("cone", "green", 3, 0)))
    labels = np.array(cell_labels(scene).split()).reshape(8, 8)
    assert set(labels.ravel()) == {"0000", "1211", "4411"}
    assert (labels[:, 2:6] == "0000").all()
    assert labels[6, 0] == "1211"
    assert (labels[:5] != "1211").all() and (labels[5:] != "4411").all()


def test_exercises_know_what_covers_their_cells(exercises):
    for bundle in exercises.drawings(4):
        for edit in bundle:
            source, target = edit.answers
            assert source == bundle[0].answers[0]
            same = [a == b for a, b in zip(source.split(), target.split(), strict=True)]
            assert len(same) == 64
            assert all(np.array(same)[~edit.changed.ravel()])


def test_heads_learn_where_cells_are(exercises):
    import early
    import torch
    from transformers import Emu3ForCausalLM, Emu3TextConfig

    from earl.data.collate import collate
    from earl.data.examples import edit_example
    from earl.policy.shared import shared_hidden_states
    from earl.sequence.tokenizer import TextTokenizer

    torch.manual_seed(0)
    model = Path(early.__file__).parents[2] / "src" / "earl" / "world" / "model"
    tokenizer = TextTokenizer.from_folder(model)
    vocabulary = tokenizer.vocabulary
    config = Emu3TextConfig(
        vocab_size=vocabulary.size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=5,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=vocabulary.pad,
    )
    policy = Emu3ForCausalLM(config)
    heads = early.EarlyHeads(policy, vocabulary.first_visual)
    bundles = exercises.drawings(2)
    batch = collate(
        [[edit_example(edit, tokenizer, prefill="reasoning") for edit in bundle] for bundle in bundles],
        vocabulary.pad,
    )
    optimiser = torch.optim.AdamW([*policy.parameters(), *heads.parameters()], lr=3e-3)
    losses = []
    for _ in range(30):
        shared_hidden_states(policy, batch.ids_BT, batch.prefix_PL, batch.prefix_mask_PL, batch.owner_B)
        loss = heads.loss(batch, bundles)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[0] > 1.2
    assert losses[-1] < 0.7 * losses[0]
