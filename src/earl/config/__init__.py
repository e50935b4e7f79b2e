"""Configuration: which model, which recipe, checked before anything heavy is imported."""
