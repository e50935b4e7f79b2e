"""Training stages, and what all of them share: loop, optimisers, schedule, checkpoints, log, random streams.

The loop knows nothing of images, tokens or rewards: those come in as an objective (a module whose
forward gives a loss), a stream of batches and a validation function. `assemble` and `export` are
the two ends that the policy's stages share: a recipe to a policy, a policy to a model folder.
"""
