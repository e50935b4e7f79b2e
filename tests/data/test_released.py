"""The authors' tokenised samples as shards: codes, texts, and what is refused by name."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch

from earl.cli import main
from earl.data.released import ReleasedSamples
from earl.data.shards import load_shards
from earl.errors import DataError

CODEBOOK = 512


class Sly:
    """A pickle that would run something."""

    def __reduce__(self):
        return print, ("ran",)


def sample(number, *, grid=(3, 4), **more):
    draw = np.random.default_rng(number)
    first = torch.from_numpy(draw.integers(0, CODEBOOK, grid))
    second = first.clone()
    second[0, 1] = (second[0, 1] + 1) % CODEBOOK
    return {"original_image": first, "edited_image": second, "instruction": f"paint it {number}", **more}


def saved(folder, samples, prefix="elsewhere/feature"):
    """`list/tokenized_datalist.json` and `feature/TASK_ID.pth`, as published."""
    (folder / "feature").mkdir(parents=True)
    (folder / "list").mkdir()
    names = [f"add_object_{number}.pth" for number in range(len(samples))]
    for name, content in zip(names, samples, strict=True):
        torch.save(content, folder / "feature" / name)
    listed = folder / "list" / "tokenized_datalist.json"
    listed.write_text(json.dumps({"prefix": prefix, "path_list": names}))
    return listed


def opened(path, **more):
    return ReleasedSamples.open(path, CODEBOOK, **{"split": "train", "group": "complex", **more})


def test_a_sample_is_an_edit(tmp_path):
    chains = {"source": "a red box", "plan": "make it blue"}
    content = [sample(0, CoT=chains), sample(1, instruction="edit_instruction: add a cat")]
    for path in (saved(tmp_path / "set", content), tmp_path / "set"):
        first, second = (opened(path).edit(number) for number in (0, 1))
        assert (first.source_codes == content[0]["original_image"].numpy()).all()
        assert (first.target_codes == content[0]["edited_image"].numpy()).all()
        assert first.changed.sum() == 1 and first.changed[0, 1]
        assert first.reasoning == "source: a red box plan: make it blue"
        assert (first.id, first.family, first.group) == ("add_object_0", "add_object", "complex")
        assert (second.instruction, second.reasoning) == ("add a cat", "")


@pytest.mark.parametrize("module", ["numpy._core.multiarray", "numpy.core.multiarray"])
def test_arrays_are_read_as_tensors_are(module, tmp_path):
    """The release's `prepare_data.py` writes NumPy arrays; NumPy 1 and 2 name their maker differently."""
    arrays = {name: sample(0)[name].numpy() for name in ("original_image", "edited_image")}
    path = saved(tmp_path / "set", [{**sample(0), **arrays, "edit_id": "add_object_0.pth", "CoT": {}}])
    file = tmp_path / "set" / "feature" / "add_object_0.pth"
    with zipfile.ZipFile(file) as given:
        members = {name: given.read(name) for name in given.namelist()}
    with zipfile.ZipFile(file, "w") as changed:
        for name, content in members.items():
            changed.writestr(name, content.replace(b"numpy._core.multiarray", module.encode()))
    edit = opened(path).edit(0)
    assert (edit.source_codes == arrays["original_image"]).all() and edit.changed.sum() == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"original_image": Sly()}, "print, which is no tensor; nothing of it was run"),
        ({"edited_image": torch.zeros(3, 4)}, "edited_image is no 2-D tensor of whole numbers"),
        ({"edited_image": torch.zeros(3, 4, 1, dtype=torch.long)}, "edited_image is no 2-D"),
        ({"edited_image": torch.zeros(3, 4, dtype=torch.bfloat16)}, "edited_image is no 2-D"),
        ({"edited_image": np.zeros((3, 4))}, "edited_image is no 2-D tensor of whole numbers"),
        ({"edited_image": [[0] * 4] * 3}, "edited_image is no 2-D tensor of whole numbers"),
        ({"edited_image": np.array([[Sly()] * 4] * 3)}, "nothing of it was run"),
        ({"edited_image": torch.zeros(4, 4, dtype=torch.long)}, "grids differ"),
        ({"edited_image": torch.full((3, 4), CODEBOOK)}, f"codes of {CODEBOOK} to {CODEBOOK}"),
        ({"instruction": " "}, "no instruction"),
        ({"instruction": 3}, "no instruction"),
        ({"CoT": ["a"]}, "CoT is not texts by key"),
    ],
)
def test_what_is_refused(tmp_path, change, what, capfd):
    path = saved(tmp_path / "set", [{**sample(0), **change}])
    with pytest.raises(DataError, match=r"add_object_0\.pth") as caught:
        opened(path).edit(0)
    assert what in str(caught.value)
    assert "ran" not in capfd.readouterr().out


def test_lists_that_are_none(tmp_path):
    with pytest.raises(DataError, match="0 lists of samples"):
        opened(tmp_path)
    listed = saved(tmp_path / "set", [sample(0)])
    (tmp_path / "set" / "feature" / "add_object_0.pth").write_bytes(b"no zip")
    with pytest.raises(DataError, match="damaged"):
        opened(listed).edit(0)
    (tmp_path / "set" / "feature" / "add_object_0.pth").unlink()
    with pytest.raises(DataError, match="neither where the list says nor beside it"):
        opened(listed).edit(0)
    listed.write_text('{"path_list": 3}')
    with pytest.raises(DataError, match="no path_list"):
        opened(listed)


def test_the_command_goes_on_where_it_was_cut(tmp_path, capsys):
    content = [sample(number) for number in range(6)]
    content[2]["edited_image"] = torch.zeros(2, 2, dtype=torch.long)
    saved(tmp_path / "set", content)
    words = [
        "prepare",
        "tokenised",
        str(tmp_path / "set"),
        "-o",
        str(tmp_path / "shards"),
        "--vision",
        "world",
    ]
    words += ["--max-rejected", "0.5", "--shard-rows", "2", "--group", "simple"]
    assert main([*words, "--limit", "2"]) == 0
    assert main(words) == 0
    assert "5 edits in" in capsys.readouterr().out
    shards = load_shards(tmp_path / "shards")
    assert [shards[index].id for index in range(5)] == [f"add_object_{n}" for n in (0, 1, 3, 4, 5)]
    assert (shards[2].target_codes == content[3]["edited_image"].numpy()).all()
    assert shards.groups() == {"simple": 5} and shards.manifest["origin"] == "mair-lab/earl-datasets"
    assert "grids differ" in (tmp_path / "shards" / "rejected.jsonl").read_text()
