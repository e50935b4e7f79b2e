"""The thirteen sources of the paper: seven to train on, six benchmarks, with their real columns.

Names of columns and folders are those of the publishers' files and dataset cards. Groups: S for
edits of object, attribute, style and environment, C for counting, spatial, action and
real-world requests (EARL, arXiv 2508.01119, section on data).
"""

from __future__ import annotations

from dataclasses import replace

from earl.data.sources.schema import Schema

_AURORA = {
    "id": ("id",),
    "source": ("input",),
    "target": ("output",),
    "instruction": ("instruction", "prompt"),
    "family": ("task", "source"),
}
OMNIEDIT = Schema(
    name="omniedit",
    hub="TIGER-Lab/OmniEdit-Filtered-1.2M",
    columns={
        "id": ("omni_edit_id",),
        "source": ("src_img",),
        "target": ("edited_img",),
        "instruction": ("edited_prompt_list",),
        "family": ("task",),
    },
    licence="MIT",
    group="simple",
)
AURORA_KUBRIC = Schema(
    name="aurora-kubric",
    hub="McGill-NLP/AURORA",
    columns=_AURORA,
    licence="MIT",
    family="kubric",
    only={"source": frozenset({"kubric"}), "task": frozenset({"kubric"})},
    layout="aurora",
)

HUMANEDIT = Schema(
    name="humanedit",
    hub="BryanW/HumanEdit",
    columns={
        "id": ("IMAGE_ID",),
        "source": ("INPUT_IMG",),
        "target": ("OUTPUT_IMG",),
        "mask": ("MASK_IMG",),
        "instruction": ("EDITING_INSTRUCTION",),
        "family": ("EDITING_TYPE",),
    },
    licence="CC-BY-4.0",
)
MAGICBRUSH = Schema(
    name="magicbrush",
    hub="osunlp/MagicBrush",
    columns={
        "id": ("img_id", "turn_index"),
        "source": ("source_img",),
        "target": ("target_img",),
        "mask": ("mask_img",),
        "instruction": ("instruction",),
    },
    licence="CC-BY-4.0",
    family="magicbrush",
    layout="magicbrush",
)
VISMIN = Schema(
    name="vismin",
    hub="mair-lab/vismin",
    columns={
        "id": ("image_id",),
        "source": ("source_image",),
        "target": ("image", "edited_image"),
        "instruction": ("instruction", "edit_instruction"),
        "family": ("category",),
        "boxes": ("bounding_boxes",),
        "source_caption": ("source_caption",),
        "target_caption": ("caption",),
    },
    licence="CC-BY-SA-4.0",
    pairs=("image_id", "source_image_id"),
    unsure_boxes=True,
)
AURORA_AG = replace(
    AURORA_KUBRIC,
    name="aurora-ag",
    family="ag",
    only={"source": frozenset({"ag"}), "task": frozenset({"ag"})},
)
SOMETHING_SOMETHING_V2 = Schema(
    name="something-something-v2",
    hub="McGill-NLP/AURORA",
    columns={
        **_AURORA,
        "source": ("input", "first_frame"),
        "target": ("output", "last_frame"),
        "instruction": ("instruction", "prompt", "label"),
    },
    licence="Something-Something-v2 research licence",
    family="something",
    only={"source": frozenset({"something"}), "task": frozenset({"something"})},
    layout="frames",
)
OMNIEDIT_DEV = replace(
    OMNIEDIT,
    name="omniedit-dev",
    hub_split="dev",
    hub_files="data/dev-0000*-of-00001.parquet",
    split="test",
    benchmark=True,
)
EMU_EDIT = Schema(
    name="emu-edit",
    hub="facebook/emu_edit_test_set",
    hub_split="test",
    columns={
        "id": ("idx",),
        "source": ("image",),
        "instruction": ("instruction",),
        "family": ("task",),
        "source_caption": ("input_caption",),
        "target_caption": ("output_caption",),
    },
    licence="CC-BY-NC-4.0",
    group="simple",
    split="test",
    benchmark=True,
    draw=1000,
)
MAGICBRUSH_TEST = Schema(
    name="magicbrush-test",
    hub="sikarwarank/magicbrush_eval",
    columns={
        "id": ("img_id", "turn_index"),
        "source": ("input", "source_img"),
        "target": ("output", "target_img"),
        "mask": ("mask", "mask_img"),
        "instruction": ("instruction",),
    },
    licence="CC-BY-4.0",
    family="magicbrush",
    split="test",
    benchmark=True,
    layout="magicbrush",
)
AURORA_BENCH = Schema(
    name="aurora-bench",
    hub="McGill-NLP/aurora-bench",
    hub_split="test",
    columns={
        "source": ("input",),
        "target": ("output",),
        "instruction": ("instruction", "prompt"),
        "family": ("source", "task"),
    },
    licence="MIT",
    split="test",
    benchmark=True,
    layout="aurora",
)
VISMIN_DEV = Schema(
    name="vismin-dev",
    hub="mair-lab/escher-vismin-dev",
    columns={
        "id": ("id",),
        "source": ("source_image",),
        "target": ("edited_image",),
        "instruction": ("edit_instruction",),
        "family": ("task", "category", "__file__"),
    },
    licence="CC-BY-SA-4.0",
    family="vismin",
    split="test",
    benchmark=True,
    prefix="edit_instruction: ",
    hub_files="data/train/*-00001.parquet",
    files=("counting-00001.parquet", "relation-00001.parquet"),
)
I2EBENCH = Schema(
    name="i2ebench",
    hub="sikarwarank/i2bench_eval",
    columns={
        "id": ("task", "sample_id"),
        "source": ("image",),
        "instruction": ("instruction", "ori_exp"),
        "family": ("task",),
    },
    licence="see the publisher",
    # RegionAccuracy's instructions are those of ColorAlteration, ObjectRemoval and Replacement.
    simple=frozenset(
        {
            "bgreplacement",
            "coloralteration",
            "objectremoval",
            "regionaccuracy",
            "replacement",
            "stylealteration",
        }
    ),
    split="test",
    benchmark=True,
    draw=1000,
    layout="i2ebench",
)
