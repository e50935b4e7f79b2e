"""Models by name: catalogue, layouts, and where the parts of a model lie. No torch."""
