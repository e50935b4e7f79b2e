"""Conversion of any Emu3 layout to one checked folder of ours, and weighted sums of policies."""
