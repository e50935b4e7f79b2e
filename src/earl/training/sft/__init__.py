"""Supervised fine-tuning of a policy on edits, and on other tasks of the same images."""
