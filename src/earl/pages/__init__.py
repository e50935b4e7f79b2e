"""A page about a training run, from what its folder holds. No torch; the page needs no network."""

from earl.pages.reading import RunRecord, read_run
from earl.pages.run import write_page

__all__ = ["RunRecord", "read_run", "write_page"]
