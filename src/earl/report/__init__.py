"""A page about a training run, from what its folder holds. No torch; the page needs no network."""

from earl.report.page import write_page
from earl.report.reading import RunRecord, read_run

__all__ = ["RunRecord", "read_run", "write_page"]
