"""Verifiers: scores of an edit, from a judge, a reference image, or several verifiers together."""
