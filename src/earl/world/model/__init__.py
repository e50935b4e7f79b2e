"""The model that ships with the package: policy, text tokenizer, vision tokenizer of the world."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
