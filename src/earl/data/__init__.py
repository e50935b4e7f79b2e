"""Training data: tokenised shards on disk, mixtures of them, and batches.

An image enters training as its codes, made once; pixels are not read again.
"""
