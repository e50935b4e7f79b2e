"""Preference tuning on pairs of edits, without a judge in the loop (DPO, arXiv 2305.18290)."""
