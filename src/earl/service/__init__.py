"""Serving over HTTP: edits behind the OpenAI image API, verifiers behind its chat API, the editing page."""
