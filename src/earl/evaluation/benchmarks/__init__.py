"""The paper's six benchmarks and later ones, one file each, registered in `earl.registry`."""
