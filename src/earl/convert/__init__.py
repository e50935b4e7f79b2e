"""Any layout of an Emu3 model to one clean folder of ours, checked against what it came from."""

from earl.convert.folder import Conversion, convert_model

__all__ = ["Conversion", "convert_model"]
