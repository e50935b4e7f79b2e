"""Texts that a multimodal model writes about edits: chains of thought, instructions from captions.

The model stands behind an OpenAI-compatible endpoint. What it answers is checked, asked again where
it cannot be used, and kept as it came, so that no answer is paid for twice.

Source: EARL (arXiv 2508.01119), which had its reasoning data and VisMin's instructions written so.
"""
