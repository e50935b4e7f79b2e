"""Where edits come from: the data sets of the paper, its benchmarks, and anyone's own files.

A source has a declared schema (which of its columns is what) and rows (parquet, Arrow, tar,
tables of paths, folder layouts, the Hub). What comes out is the same everywhere: a `Sample`.
Nothing is fetched from the Hub unless the caller names it. No torch here.
"""

from earl.data.sources.builtin import SOURCES, find_schema
from earl.data.sources.opening import CaptionPair, OpenedSource, Read, open_source
from earl.data.sources.own import own_schema, parse_map
from earl.data.sources.sample import ImageRef, Sample
from earl.data.sources.schema import FIELDS, Schema

__all__ = [
    "FIELDS",
    "SOURCES",
    "CaptionPair",
    "ImageRef",
    "OpenedSource",
    "Read",
    "Sample",
    "Schema",
    "find_schema",
    "open_source",
    "own_schema",
    "parse_map",
]
