"""Verifiers: what looks at an edit and gives it scores."""
