"""Benchmarks beside the paper's six, with their columns: PIE-Bench, GEdit-Bench, ImgEdit-Bench, RISEBench.

Names of columns and families are those of the publishers' files.
"""

from __future__ import annotations

from earl.data.sources.schema import Schema


def _gedit(language: str) -> Schema:
    return Schema(
        name=f"gedit-bench-{language}",
        hub="stepfun-ai/GEdit-Bench",
        columns={
            "id": ("key",),
            "source": ("input_image_raw", "input_image"),
            "instruction": ("instruction",),
            "family": ("task_type",),
        },
        licence="MIT",
        simple=frozenset(
            {
                "background change",
                "color alter",
                "material alter",
                "style change",
                "subject-add",
                "subject-remove",
                "subject-replace",
                "tone transfer",
            }
        ),
        split="test",
        benchmark=True,
        only={"instruction_language": frozenset({language})},
    )


GEDIT_BENCH_EN, GEDIT_BENCH_CN = _gedit("en"), _gedit("cn")
IMGEDIT_BENCH = Schema(
    name="imgedit-bench",
    hub="sysuyy/ImgEdit",
    columns={
        "id": ("__key__", "key"),
        "source": ("image", "id"),  # `id` is the image's path in the publisher's folder
        "instruction": ("prompt",),
        "family": ("edit_type",),
    },
    licence="see the publisher",
    simple=frozenset({"add", "adjust", "background", "extract", "remove", "replace", "style"}),
    split="test",
    benchmark=True,
    join_ids=False,
)
RISE_BENCH = Schema(
    name="rise-bench",
    hub="PhoenixZ/RISEBench",
    columns={
        "id": ("index",),
        "source": ("image",),
        "instruction": ("instruction",),
        "family": ("category",),
    },
    licence="see the publisher",
    split="test",
    benchmark=True,
)
PIE_BENCH = Schema(
    name="pie-bench",
    columns={
        "id": ("__key__",),
        "source": ("image_path",),
        "instruction": ("editing_instruction",),
        "family": ("editing_type",),
        "mask": ("mask",),
        "source_caption": ("original_prompt",),
        "target_caption": ("editing_prompt",),
    },
    licence="see the publisher",
    simple=frozenset(
        {
            "change object",
            "add object",
            "delete object",
            "change content",
            "change color",
            "change material",
            "change background",
            "change style",
        }
    ),
    split="test",
    benchmark=True,
    layout="pie",
)
