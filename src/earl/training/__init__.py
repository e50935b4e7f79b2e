"""Training stages, and what all of them share: loop, optimisers, schedule, checkpoints, log, random streams.

The loop knows nothing of images, tokens or rewards: those come in as an objective (a module whose
forward gives a loss), a stream of batches and a validation function. The stages that train the policy
share `parts.assemble_policy` (from a recipe to a policy) and `parts.publish_policy` (from the trained
policy to a model folder).
"""
