"""Any layout of an Emu3 model to one clean folder of ours, checked against what it came from; and sums."""

from earl.convert.folder import Conversion, convert_model
from earl.convert.merge import merge_policies

__all__ = ["Conversion", "convert_model", "merge_policies"]
