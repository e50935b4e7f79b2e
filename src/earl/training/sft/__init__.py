"""Learning from examples: the vision tokenizer, the base stage, supervised fine-tuning.

Each stage is one function that takes a resolved recipe and leaves a model folder. They share
the loop of `earl.training` and differ in objective and data.
"""
