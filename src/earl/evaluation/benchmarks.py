"""The paper's six benchmarks and later ones, as `benchmarks.toml` declares them."""

from pathlib import Path

from pydantic import TypeAdapter

from earl.evaluation.benchmark import DeclaredBenchmark
from earl.files import parse_toml, read_text

_FILE = Path(__file__).with_suffix(".toml")
_TABLES = parse_toml(read_text(_FILE), str(_FILE))
BENCHMARKS = TypeAdapter(dict[str, DeclaredBenchmark]).validate_python(
    {name: {"name": name, **table} for name, table in _TABLES.items()}
)
