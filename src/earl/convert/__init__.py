"""Conversion of any Emu3 layout to one checked folder of ours, and weighted sums of policies."""

from earl.convert.folder import Conversion, convert_model
from earl.convert.merge import merge_policies

__all__ = ["Conversion", "convert_model", "merge_policies"]
