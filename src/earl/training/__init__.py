"""What every trained stage shares: loop, optimisers, schedule, checkpoints, log, random streams.

It knows nothing of images, tokens or rewards: those come in as an objective (a module whose
forward gives a loss), a stream of batches and a validation function.
"""
