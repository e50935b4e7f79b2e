"""Where edits come from: the data sets of the paper, its benchmarks, other packages, and one's own files.

A declared source has a schema (which of its columns is what) and rows (parquet, Arrow, tar, tables of
paths, folder layouts, the Hub); a registered one gives samples itself. What comes out is the same
everywhere: a `Sample`. Nothing is fetched from the Hub unless the caller names it. No torch here.
"""

from earl.data.sources.cells import read_boxes
from earl.data.sources.opening import CaptionPair, OpenedSource, open_source
from earl.data.sources.own import own_schema, parse_map, read_instructions
from earl.data.sources.sample import ImageRef, Read, Sample
from earl.data.sources.schema import FIELDS, Schema
from earl.registry import SOURCES

SCHEMAS: dict[str, Schema] = {name: SOURCES.load(name) for name in SOURCES.own}
"""The built-in sources by name: those to train on, then the benchmarks."""

__all__ = [
    "FIELDS",
    "SCHEMAS",
    "CaptionPair",
    "ImageRef",
    "OpenedSource",
    "Read",
    "Sample",
    "Schema",
    "open_source",
    "own_schema",
    "parse_map",
    "read_boxes",
    "read_instructions",
]
