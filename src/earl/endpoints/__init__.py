"""Client of OpenAI-compatible endpoints; knows nothing of judging."""
