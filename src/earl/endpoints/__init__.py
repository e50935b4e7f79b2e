"""Client of models behind OpenAI-compatible endpoints; it knows nothing of judging."""
