"""Data sources that have a name, as `builtin.toml` declares them."""

from pathlib import Path

from pydantic import TypeAdapter

from earl.data.sources.schema import Schema
from earl.files import parse_toml, read_text

_FILE = Path(__file__).with_suffix(".toml")
_TABLES = parse_toml(read_text(_FILE), str(_FILE))
SCHEMAS = TypeAdapter(dict[str, Schema]).validate_python(
    {name: {"name": name, **table} for name, table in _TABLES.items()}
)
"""By name: those to train on, then the benchmarks."""
