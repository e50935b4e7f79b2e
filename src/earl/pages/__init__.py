"""HTML pages of training runs and evaluations: one file each that needs nothing else, and no network."""
