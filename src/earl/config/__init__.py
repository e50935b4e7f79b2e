"""Recipes: strict settings read from TOML, and where models live on disk. No torch here."""
