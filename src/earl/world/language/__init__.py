"""The language of edit requests: records, sentences drawn from a grammar, and reading them back."""
