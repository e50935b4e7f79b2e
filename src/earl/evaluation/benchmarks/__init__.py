"""The paper's six benchmarks, one file each, registered in `earl.registry`."""
