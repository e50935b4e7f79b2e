"""Reinforcement learning with verifiers: GRPO as EARL runs it.

prompts → rollouts → images → verdicts → advantages → batch → loss → update, in `trainer.py`.
Sources: GRPO (arXiv 2402.03300), EARL (arXiv 2508.01119).
"""
