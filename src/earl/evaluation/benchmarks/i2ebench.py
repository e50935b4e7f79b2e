"""I2EBench: 1,000 rows drawn with seed 42 (as the paper did), in 16 dimensions, no target images.

Its own division is high-level (what an image shows) and low-level (restoring a damaged image).
The names are those of the folders in the publisher's `EditData/`.
"""

from earl.evaluation.benchmark import DeclaredBenchmark

HIGH = (
    "bgreplacement",
    "coloralteration",
    "counting",
    "directionperception",
    "objectremoval",
    "regionaccuracy",
    "replacement",
    "stylealteration",
)
LOW = (
    "deblurring",
    "hazeremoval",
    "lowlight",
    "noiseremoval",
    "rainremoval",
    "shadowremoval",
    "snowremoval",
    "watermarkremoval",
)
BENCHMARK = DeclaredBenchmark(
    name="i2ebench",
    title="I2EBench",
    schema="i2ebench",
    column="I2EBench",
    about="16 dimensions, high-level and low-level, 1,000 edits drawn; no targets",
    kinds=dict.fromkeys(HIGH, "high-level") | dict.fromkeys(LOW, "low-level"),
)
