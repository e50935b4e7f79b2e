"""Serving over HTTP: any verifier behind the OpenAI chat API (`verifier`, `http`)."""
